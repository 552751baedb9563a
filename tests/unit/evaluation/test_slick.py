"""SliCK's four categories, from a table of greedy and drawn answers."""

from __future__ import annotations

import pytest

from memedit.evaluation.learned import learned
from memedit.evaluation.samples import Evaluation
from memedit.evaluation.slick import CATEGORIES, categories_of, slick, split_by_category
from memedit.evaluation.statistics import Metric
from memedit.facts import Fact


def fact(name, target, relation=None):
    return Fact(name, f"The capital of {name} is", target, name, relation=relation)


POOL = [fact(f"Land{index}", f"Town{index}", "capital") for index in range(12)]
FACTS = [fact("A", "Oslo"), fact("B", "Rome"), fact("C", "Bonn"), fact("D", "\u6771\u4eac"), fact("E", "Ulm")]


class Recorder:
    """Hands out answers by the fact that a prompt ends with, and notes what was asked."""

    def __init__(self, table_respondent, answers, drawn):
        self.make, self.answers, self.drawn = table_respondent, answers, drawn
        self.asked, self.sampled = [], []

    def answer(self, prompts, **options):
        self.asked += prompts
        seen = {}
        table = {}
        for prompt in prompts:
            name = prompt.split()[-2]
            choices = self.answers[name]
            table[prompt] = choices[seen.setdefault(name, 0) % len(choices)]
            seen[name] += 1
        return self.make(table).answer(prompts)

    def sample(self, prompts, drawing, *, description=""):
        self.sampled += prompts
        table = {prompt: self.drawn[prompt.split()[-2]] for prompt in prompts}
        return self.make(samples=table).sample(prompts, drawing)

    def count_tokens(self, texts):
        return [len(text.split()) for text in texts]


@pytest.fixture
def recorder(table_respondent):
    return Recorder(
        table_respondent,
        {"A": ["Oslo"], "B": ["Rome", "no"], "C": ["no"], "D": ["", "no"], "E": [""]},
        {"C": ["no"] * 15 + ["Bonn, Germany"], "D": [""], "E": ["\n", "Ulmer"]},
    )


def test_categories(recorder):
    found = slick(recorder, FACTS, examples=POOL, num_sets=4)
    assert categories_of(found) == {
        "A": "HighlyKnown",
        "B": "MaybeKnown",
        "C": "WeaklyKnown",
        "D": "Unknown",
        "E": "Unknown",
    }
    values = {metric.name: (metric.value, metric.n) for metric in found.metrics}
    assert values == {
        "slick_highly_known": (0.2, 5),
        "slick_maybe_known": (0.2, 5),
        "slick_weakly_known": (0.2, 5),
        "slick_unknown": (0.4, 5),
    }
    details = {sample.cluster: sample.details for sample in found.samples}
    assert details["B"] == {"category": "MaybeKnown", "p_greedy": 0.5, "p_sampled": None}
    assert details["C"] == {"category": "WeaklyKnown", "p_greedy": 0.0, "p_sampled": 1 / 16}
    # Only what greedy never gets right is sampled.
    assert {prompt.split()[-2] for prompt in recorder.sampled} == {"C", "D", "E"}
    assert len(recorder.asked) == 4 * 5


def test_prompts_hold_other_facts_in_their_wording(recorder):
    slick(recorder, FACTS[:1], examples=[*POOL, FACTS[0], fact("F", "Oslo"), fact("Oslo", "G")], num_sets=3)
    assert len(set(recorder.asked)) == 3
    for prompt in recorder.asked:
        *shown, own = prompt.split("\n")
        assert own == "The capital of A is"
        assert len(shown) == 4
        for line in shown:
            assert line.startswith("The capital of Land")
            assert line.endswith(".")
    again = Recorder(recorder.make, recorder.answers, recorder.drawn)
    slick(again, FACTS[:1], examples=POOL, num_sets=3, seed=1)
    assert not set(again.asked) & set(recorder.asked)


def test_examples_are_of_the_facts_relation_where_there_are_enough(recorder):
    others = [
        Fact(f"o{i}", f"The colour of Thing{i} is", f"Hue{i}", f"Thing{i}", relation="colour")
        for i in range(9)
    ]
    slick(recorder, [fact("A", "Oslo", "capital")], examples=[*POOL, *others], num_sets=5)
    assert all("colour" not in prompt for prompt in recorder.asked)
    alone = Recorder(recorder.make, recorder.answers, recorder.drawn)
    slick(alone, [fact("A", "Oslo", "capital")], examples=[*POOL[:3], *others], num_sets=5)
    assert any("colour" in prompt for prompt in alone.asked)


def test_the_bundled_examples_do(recorder):
    slick(recorder, FACTS[:1])
    assert len(set(recorder.asked)) == 4
    assert all(prompt.count("\n") == 4 for prompt in recorder.asked)


@pytest.mark.parametrize("wrong", ["num_sets", "num_shots", "num_samples"])
def test_wrong_numbers_are_refused(recorder, wrong):
    with pytest.raises(ValueError, match=wrong):
        slick(recorder, FACTS, examples=POOL, **{wrong: 0})


def test_no_facts(recorder):
    found = slick(recorder, [])
    assert (found.metrics, len(found.notes)) == ((), 1)


def test_results_are_split(recorder, table_respondent):
    categories = categories_of(slick(recorder, FACTS, examples=POOL))
    answers = {one.prompt: one.target if one.id in "ABC" else "no" for one in FACTS}
    after = learned(table_respondent(answers, default_score=(-1.0, 1, 1)), FACTS)
    combined = Evaluation((*after.metrics, Metric("harmonic", 0.5, 5, 0.0, 1.0, "p")), after.samples)
    parts = split_by_category(combined, categories)
    assert tuple(parts) == CATEGORIES
    scores = {category: part.metric("learned_exact_match") for category, part in parts.items()}
    assert {category: (metric.value, metric.n) for category, metric in scores.items()} == {
        "HighlyKnown": (1.0, 1),
        "MaybeKnown": (1.0, 1),
        "WeaklyKnown": (1.0, 1),
        "Unknown": (0.0, 2),
    }
    assert "harmonic" not in [metric.name for metric in parts["Unknown"].metrics]
    assert split_by_category(combined, {}) == {}
