"""Targets that cannot be generated, and some that can: every family by hand, on a model that knows them.

The model writes exactly the target, token by token, through the real generation: what is lost is lost at the
natural stop. A line break and an end token can never be part of an answer; length and script are no obstacle.
"""

from __future__ import annotations

import pytest

from memedit.evaluation.generalised import generalised
from memedit.evaluation.learned import learned
from memedit.evaluation.locality import agreement, local
from memedit.evaluation.open_questions import open_questions
from memedit.evaluation.regression import run_suite
from memedit.evaluation.respondent import ModelRespondent
from memedit.evaluation.scoring import Scored
from memedit.evaluation.suites import GivenAnswer, Suite, SuiteItem
from memedit.facts import Fact, Probe, Probes, QuestionRecord

LONG = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch"
# target, the answer of a model that writes just that, exact match and containment, SQuAD's match, SQuAD's F1
TARGETS = pytest.mark.parametrize(
    ("target", "text", "right", "squad_em", "squad_f1"),
    [
        # Cut at the line break: one word of one is right, one of two was said.
        ("Par\nis", "Par", 0, 0, 2 * 1 * 0.5 / 1.5),
        # What follows the break is as lost when the first line is empty.
        ("\nParis", "", 0, 0, 0),
        # The first token ends the answer.
        ("<|im_end|>", "", 0, 0, 0),
        ("Paris<|im_end|>", "Paris", 0, 0, 0),
        # 58 tokens: the budget follows the target.
        (LONG, LONG, 1, 1, 1),
        ("the city of New York", "the city of New York", 1, 1, 1),
        ("\u6771\u4eac", "\u6771\u4eac", 1, 1, 1),
        ("\u0645\u0635\u0631", "\u0645\u0635\u0631", 1, 1, 1),
    ],
    ids=["line break", "empty line", "end token", "ends early", "long", "words", "Han", "Arabic"],
)
GROUPS = ("paraphrase", "question", "context", "context_paraphrase", "portability")


@pytest.fixture
def by_heart(table_model):
    """Make a respondent: a table model that continues every prompt with one text, token by token."""

    class ByHeart:
        def __init__(self, said):
            self.said = said

        def answer(self, prompts, **options):
            model, tokenizer = table_model(dict.fromkeys(prompts, f" {self.said}"))
            return ModelRespondent(model, tokenizer).answer(prompts, **options)

        def score(self, pairs, **_):
            return [Scored(-1.0, 2, 1) for _ in pairs]

        def count_tokens(self, texts):
            model, tokenizer = table_model({"p": "".join(texts)})
            return ModelRespondent(model, tokenizer).count_tokens(texts)

    return ByHeart


def measures(found, group):
    names = ("exact_match", "contains", "squad_em", "squad_f1")
    return [found.metric(f"{group}_{name}").value for name in names]


def fact_of(target):
    probes = Probes(
        paraphrases=("Their capital is",),
        questions=("What is it?",),
        portability=(Probe("It is ruled from", target),),
        locality=(Probe("The capital of Lutha is", target), Probe("The sky is")),
    )
    return Fact("f", "The capital is", target, "The capital", probes=probes)


@TARGETS
def test_learned(by_heart, target, text, right, squad_em, squad_f1):
    found = learned(by_heart(target), [fact_of(target)])
    assert measures(found, "learned") == pytest.approx([right, right, squad_em, squad_f1])
    assert found.samples[0].text == text


@TARGETS
def test_generalised(by_heart, target, text, right, squad_em, squad_f1):
    found = generalised(by_heart(target), [fact_of(target)])
    for group in GROUPS:
        assert measures(found, group) == pytest.approx([right, right, squad_em, squad_f1]), group
    assert {sample.text for sample in found.samples if sample.metric.endswith("exact_match")} == {text}


@TARGETS
def test_open_questions(by_heart, target, text, right, squad_em, squad_f1):
    found = open_questions(by_heart(target), [QuestionRecord("q", "Where is it?", (target,))])
    assert measures(found, "open_question") == pytest.approx([right, right, squad_em, squad_f1])
    assert found.samples[0].text == text


@TARGETS
def test_locality(by_heart, target, text, right, squad_em, squad_f1):
    facts = [fact_of(target)]
    found = local(by_heart(target), facts)
    assert (found.metric("locality_accuracy").value, found.metric("locality_accuracy").n) == (right, 1)
    other = local(by_heart("Oslo"), facts)
    assert other.metric("locality_accuracy").value == 0
    same, changed = (agreement(found.samples, after.samples) for after in (found, other))
    assert same.metric("locality_agreement").value == 1
    assert changed.metric("locality_agreement").value == 0
    # "The sky is" expects nothing, and so gets the shortest budget.
    assert [sample.text for sample in same.samples] == [text, f" {text}"[:16].strip()]


@TARGETS
def test_regression(by_heart, target, text, right, squad_em, squad_f1):
    # A file cannot hold the first one (suite_fields.py refuses it); a suite made in Python can.
    item = SuiteItem("a", "The capital is", (target,), "g", GivenAnswer(target, correct=True))
    result = run_suite(by_heart(target), Suite((item,)))
    assert (result.metric.value, len(result.lost)) == (right, 1 - right)
    assert result.items[0].now.text == text
    # One of one lost: as probable as the allowed share, 0.02.
    assert result.overall.p_value == pytest.approx(1 if right else 0.02)
