"""Generalised: other wordings, other contexts, what follows; all numbers by hand."""

from __future__ import annotations

import pytest

from memedit.evaluation.catalogue import all_metrics, metric_info
from memedit.evaluation.distractors import behind_distractor, distracting_sentences
from memedit.evaluation.generalised import generalised
from memedit.evaluation.statistics import wilson_interval
from memedit.facts import Fact, MultiHop, Probe, Probes, context_sentences

PROMPT, HELD_OUT, QUESTION = "The capital of Zubrowka is", "People govern Zubrowka from", "Q: Zubrowka? A:"
FACTS = [
    Fact(
        "f1",
        PROMPT,
        "Lutz",
        "Zubrowka",
        paraphrases=("Zubrowka's seat is",),
        probes=Probes(
            # The second is taught, so it is not held out.
            paraphrases=(HELD_OUT, "zubrowka's seat is", "Lutz or not, Zubrowka has"),
            questions=(QUESTION,),
            portability=(
                Probe("Zubrowka's mayor sits in", "Lutz", kind="reasoning"),
                Probe("The Republic's capital is", "Lutz", ("Nebelsbad",), kind="subject_aliasing"),
                Probe("Lutz is the capital of", "Zubrowka"),
                Probe("no target"),
            ),
            multi_hop=(
                MultiHop(("Where does the baker vote?", "The baker votes in"), "Lutz City", ("Lutz",)),
                MultiHop(("Who rules there?",), "Zero"),
            ),
        ),
    ),
    Fact("f2", "Zorvan was born in", "Oslo", "Zorvan", probes=Probes(paraphrases=("Zorvan is from",))),
]


def about(fact):
    return " ".join((fact.prompt, fact.subject, *fact.answers))


def behind(prompt, fact, seed=0):
    return behind_distractor(prompt, about(fact), seed=seed)


ANSWERS = {
    HELD_OUT: "Lutz",
    "Lutz or not, Zubrowka has": "its capital Lutz",
    "Zorvan is from": "",
    QUESTION: "It is Lutz.",
    behind(PROMPT, FACTS[0]): "Lutz",
    behind("Zorvan was born in", FACTS[1]): "Bergen",
    behind(HELD_OUT, FACTS[0]): "Lutz",
    behind("Zorvan is from", FACTS[1]): "Oslo",
    "Zubrowka's mayor sits in": "Paris",
    "The Republic's capital is": "Nebelsbad",
    "Lutz is the capital of": "Zubrowka",
    "Where does the baker vote?": "",
    "The baker votes in": "Lutz",
    "Who rules there?": "One",
}


@pytest.fixture
def who(table_respondent):
    return table_respondent(ANSWERS, default_score=(-3.0, 3, 1))


def test_by_hand(who):
    found = generalised(who, FACTS)
    shares = {
        name: (found.metric(f"{name}_exact_match").value, found.metric(f"{name}_contains").value)
        for name in ("paraphrase", "question", "context", "context_paraphrase", "portability", "multi_hop")
    }
    assert shares == {
        "paraphrase": (1 / 3, 2 / 3),
        "question": (0, 1),
        "context": (1 / 2, 1 / 2),
        "context_paraphrase": (1, 1),
        "portability": (2 / 3, 2 / 3),
        # The second phrasing is right, and SQuAD's exact match is with the alias.
        "multi_hop": (1 / 2, 1 / 2),
    }
    assert found.metric("multi_hop_squad_f1").value == (1 + 0) / 2
    assert found.metric("portability_reasoning_exact_match").value == 0
    assert found.metric("portability_subject_aliasing_exact_match").value == 1
    assert found.metric("paraphrase_log_prob").value == -3
    assert found.metric("question_token_accuracy").value == pytest.approx(1 / 3)
    assert [note.partition(" was")[0] for note in found.notes] == [
        "portability_logical_generalization",
        "left out of portability, for they have no target: 1 probes",
    ]


def test_prompts_are_counted_and_facts_are_resampled(who):
    metric = generalised(who, FACTS).metric("paraphrase_exact_match")
    # Three wordings, of two facts.
    assert metric.n == 3
    assert (metric.low, metric.high) == wilson_interval(2 / 3, 2)


def test_items_are_distinct_within_a_metric_and_name_the_kind(who):
    samples = generalised(who, FACTS).samples
    assert len({(sample.metric, sample.item) for sample in samples}) == len(samples)
    kinds = {
        sample.prompt: sample.details.get("kind")
        for sample in samples
        if sample.metric == "portability_exact_match"
    }
    assert list(kinds.values()) == ["reasoning", "subject_aliasing", None]


def test_a_multi_hop_question_shows_its_best_phrasing(who):
    exact = [one for one in generalised(who, FACTS).samples if one.metric == "multi_hop_exact_match"]
    assert [(one.prompt, one.text, one.value) for one in exact] == [
        ("The baker votes in", "Lutz", 1),
        ("Who rules there?", "One", 0),
    ]


def test_everything_is_asked_at_once(who):
    generalised(who, FACTS)
    assert len(who.answer_calls) == len(who.score_calls) == 1
    prompts, budget = who.answer_calls[0]
    assert budget == 16
    assert sorted(prompts) == sorted(ANSWERS)


def test_facts_without_probes(table_respondent):
    found = generalised(
        table_respondent(default_answer="", default_score=(-1.0, 1, 0)), [Fact("f", "p", "t", "p")]
    )
    assert {metric.name.rsplit("_", 1)[0] for metric in found.metrics} >= {"context_exact"}
    assert {metric.name.partition("_")[0] for metric in found.metrics} == {"context"}
    assert found.notes == (
        "paraphrase was not measured: no held-out wordings",
        "question was not measured: no question form never trained",
        "context_paraphrase was not measured: no first held-out wording behind a sentence of unrelated text",
        "portability was not measured: no portability probes",
        "multi_hop was not measured: no multi-hop questions",
    )
    assert generalised(table_respondent(), []).metrics == ()


def test_every_metric_is_in_the_catalogue(who):
    for metric in generalised(who, FACTS).metrics:
        assert metric.protocol == metric_info(metric.name).protocol
    num_groups = 8
    assert sum(info.family == "generalised" for info in all_metrics()) == num_groups * 7 + 4


def test_distractors_are_full_sentences_that_training_never_sees():
    sentences = distracting_sentences()
    assert len(sentences) > 100
    assert not set(sentences) & set(context_sentences())
    assert all(40 <= len(text) <= 160 and text.endswith(".") and "\n" not in text for text in sentences)


def test_a_distractor_is_chosen_by_seed_and_prompt_and_is_about_something_else():
    chosen = {behind_distractor("P is", "P", seed=seed) for seed in range(20)}
    assert len(chosen) > 10
    assert behind_distractor("P is", "P", seed=3) == behind_distractor("P is", "P", seed=3)
    assert behind_distractor("P is", "P", seed=3) != behind_distractor("Q is", "Q", seed=3)
    plain = behind_distractor("P is", "nothing", seed=3)
    assert plain.endswith(". P is")
    sentence = plain.removesuffix(" P is")
    longest = max(sentence.rstrip(".").split(), key=len)
    assert not behind_distractor("P is", f"the {longest.upper()}", seed=3).startswith(sentence)
    # A fact that shares a word with every sentence still gets one.
    assert behind_distractor("P is", " ".join(distracting_sentences()), seed=3) == plain
