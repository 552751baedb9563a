"""Assertions where nothing can be known, by hand."""

from __future__ import annotations

import math

import pytest

from memedit.evaluation.question_prompts import ANSWERS_AND_REFUSALS, question_prompt
from memedit.evaluation.refusals import is_assertion
from memedit.evaluation.self_aware import self_aware
from memedit.facts import QuestionRecord


def records(num_answerable=4, num_unanswerable=4):
    known = [
        QuestionRecord(f"k{index}", f"Known {index}?", ("Yes", "Ja"), "answerable", answerable=True)
        for index in range(num_answerable)
    ]
    unknown = [
        QuestionRecord(f"u{index}", f"Unknown {index}?", (), "answerable", answerable=False)
        for index in range(num_unanswerable)
    ]
    return known + unknown


def told(table_respondent, texts, asked=None):
    asked = records() if asked is None else asked
    table = {
        question_prompt(one.question, ANSWERS_AND_REFUSALS): text
        for one, text in zip(asked, texts, strict=True)
    }
    found = self_aware(table_respondent(table), asked)
    return found, {metric.name: metric.value for metric in found.metrics}


def test_figures_by_hand(table_respondent):
    texts = [
        ("Yes", 0.9),
        ("Well, ja", 0.8),
        ("No", 0.7),
        ("I don't know", 0.3),
        ("I do not know", 0.2),
        ("", 0.75),
        ("42", 0.4),
        ("It depends", 0.1),
    ]
    found, values = told(table_respondent, texts)
    assert values["unanswerable_assertion_rate"] == 0.25
    assert values["answerable_assertion_rate"] == 0.75
    assert values["answerable_contains"] == 0.5
    # 3 of 4 unanswerable ones are met with silence, as is 1 answerable one: P = R = 3/4.
    assert values["self_aware_f1"] == pytest.approx(0.75)
    # Of 16 pairs the answerable one is surer in 4 + 4 + 3 + 2.
    assert values["answerable_auroc"] == pytest.approx(13 / 16)
    assert [metric.n for metric in found.metrics] == [4, 4, 4, 8, 8]
    for metric in found.metrics:
        assert metric.low <= metric.value <= metric.high


def test_everything_asserted_and_everything_refused(table_respondent):
    _, asserting = told(table_respondent, ["Paris"] * 8)
    assert asserting["unanswerable_assertion_rate"] == 1.0
    assert asserting["self_aware_f1"] == 0.0
    assert asserting["answerable_auroc"] == 0.5
    _, silent = told(table_respondent, [""] * 8)
    assert silent["unanswerable_assertion_rate"] == silent["answerable_assertion_rate"] == 0.0
    # Recall 1, precision 1/2.
    assert silent["self_aware_f1"] == pytest.approx(2 / 3)


def test_a_model_that_never_refuses_is_not_certain_to_never_refuse(table_respondent):
    found, _ = told(table_respondent, ["Paris"] * 8)
    metric = found.metric("self_aware_f1")
    assert metric.low == 0.0
    assert 0.05 < metric.high < 0.6


def test_an_answer_that_looks_like_a_refusal_is_right(table_respondent):
    asked = [QuestionRecord("k", "Sung by?", ("I Do Not Know",), "answerable", answerable=True)]
    _, values = told(table_respondent, ["I do not know"], asked)
    assert values["answerable_assertion_rate"] == 1.0
    assert math.isnan(values["self_aware_f1"])
    assert math.isnan(values["answerable_auroc"])


def test_questions_without_a_mark_are_left_out(table_respondent):
    found = self_aware(table_respondent(), [QuestionRecord("q", "So?", ("Yes",))])
    assert found.metrics == ()
    assert len(found.notes) == 2


def test_the_examples_are_as_many_answers_as_refusals():
    assert [is_assertion(answer) for _, answer in ANSWERS_AND_REFUSALS] == [True, False, True, False]
