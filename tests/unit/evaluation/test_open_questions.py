"""Held-out questions and their relative drop, by hand."""

from __future__ import annotations

import math

import pytest

from memedit.evaluation.open_questions import open_questions, open_retention_questions, relative_drop
from memedit.evaluation.question_prompts import SHORT_ANSWERS, question_prompt
from memedit.facts import QuestionRecord

RECORDS = [
    QuestionRecord("a", "who wrote hamlet", ("William Shakespeare", "Shakespeare")),
    QuestionRecord("b", "What is the capital of Japan?", ("Tokyo", "\u6771\u4eac")),
    QuestionRecord("c", "when did the war end", ("2 September 1945",)),
    QuestionRecord("d", "Is it so?", ()),
]


def told(table_respondent, texts):
    prompts = [question_prompt(record.question, SHORT_ANSWERS) for record in RECORDS]
    return open_questions(table_respondent(dict(zip(prompts, texts, strict=False))), RECORDS)


def test_figures_by_hand(table_respondent):
    found = told(table_respondent, ["Shakespeare", "\u6771\u4eac, Japan", "It ended on 2 September"])
    values = {metric.name: metric.value for metric in found.metrics}
    assert values["open_question_exact_match"] == pytest.approx(2 / 3)
    assert values["open_question_contains"] == pytest.approx(2 / 3)
    assert values["open_question_squad_em"] == pytest.approx(1 / 3)
    # 1; two words, one of them right: 2 * 1/2 * 1 / (3/2); five words, two of three right: 2 * 2 / (5 + 3).
    assert values["open_question_squad_f1"] == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert found.metric("open_question_squad_f1").n == 3
    assert found.notes == ("1 questions have no answer and were not asked",)
    assert {sample.item for sample in found.samples} == {"a/open", "b/open", "c/open"}


def test_the_prompt():
    prompt = question_prompt("who wrote\nhamlet", SHORT_ANSWERS)
    assert prompt.startswith("Question: What is the capital of France?\nAnswer: Paris\n\nQuestion: ")
    assert prompt.endswith("Answer: 1945\n\nQuestion: who wrote hamlet?\nAnswer:")
    own = question_prompt("what is the capital of FRANCE", SHORT_ANSWERS)
    assert own.count("Question:") == 4
    assert "Paris" not in own
    assert question_prompt("Is it so?") == "Question: Is it so?\nAnswer:"


def test_nothing_to_ask(table_respondent):
    found = open_questions(table_respondent(), RECORDS[3:])
    assert (found.metrics, len(found.notes)) == ((), 2)


@pytest.mark.parametrize(
    ("after", "drop"),
    [
        (["Shakespeare", "Tokyo", "2 September 1945"], 0.0),
        (["Shakespeare", "", "2 September 1945"], 1 / 3),
        (["", "", ""], 1.0),
    ],
)
def test_relative_drop(table_respondent, after, drop):
    before = told(table_respondent, ["Shakespeare", "Tokyo", "2 September 1945"])
    found = relative_drop(before, told(table_respondent, after))
    assert (found.name, found.n) == ("open_question_relative_drop", 3)
    assert found.value == pytest.approx(drop)
    assert found.low < found.high
    assert found.low <= found.value <= found.high


def test_a_gain_is_a_negative_drop_and_nothing_known_has_none(table_respondent):
    half, whole = ["Shakespeare", "", ""], ["Shakespeare", "Tokyo", ""]
    assert relative_drop(told(table_respondent, half), told(table_respondent, whole)).value == pytest.approx(
        -1
    )
    silent = told(table_respondent, ["", "", ""])
    assert math.isnan(relative_drop(silent, told(table_respondent, whole)).value)
    with pytest.raises(ValueError, match="same questions"):
        relative_drop(silent, open_questions(table_respondent(default_answer="x"), RECORDS[:1]))


def test_questions_for_a_retention_suite():
    suite = open_retention_questions(RECORDS)
    assert [question.fact_id for question in suite] == ["a", "b", "c"]
    assert suite[0].prompt == question_prompt("who wrote hamlet", SHORT_ANSWERS)
    assert (suite[0].answers, suite[0].group) == (("William Shakespeare", "Shakespeare"), "open_question")
