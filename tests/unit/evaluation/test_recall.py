import pytest

from memedit.evaluation.recall import (
    HELD_OUT_WORDING,
    QUESTION,
    TRAINED_WORDING,
    Answered,
    Question,
    answer_questions,
    questions_of,
    recall_metric,
)
from memedit.evaluation.statistics import wilson_interval
from memedit.facts import Fact, Probes

FACT = Fact(
    id="f1",
    prompt="The capital of Zubrowka is",
    target="Nebelsbad",
    subject="Zubrowka",
    aliases=("Lutz",),
    paraphrases=("Zubrowka's capital city is",),
    probes=Probes(
        paraphrases=("People govern Zubrowka from", "zubrowka's capital city is"),
        questions=("Question: What is the capital of Zubrowka?\nAnswer:",),
    ),
)


def test_questions_of_a_fact_leave_out_what_is_taught():
    assert [(one.group, one.prompt) for one in questions_of(FACT)] == [
        (TRAINED_WORDING, "The capital of Zubrowka is"),
        (HELD_OUT_WORDING, "People govern Zubrowka from"),
        (QUESTION, "Question: What is the capital of Zubrowka?\nAnswer:"),
    ]
    assert {one.answers for one in questions_of(FACT)} == {("Nebelsbad", "Lutz")}
    assert {one.fact_id for one in questions_of(FACT)} == {"f1"}


@pytest.mark.parametrize(
    ("said", "correct"),
    [
        (" Nebelsbad", True),
        (" the nebelsbad, of course", True),
        (" Lutz", True),
        (" Nebelsbader", False),
        (" not Nebelsbad", False),
        ("\nNebelsbad", False),
        ("", False),
    ],
)
def test_verdicts(table_model, said, correct):
    question = Question("Capital:", ("Nebelsbad", "Lutz"), TRAINED_WORDING, "f1")
    model, tokenizer = table_model({"Capital:": said})
    (answered,) = answer_questions(model, tokenizer, [question], max_new_tokens=40)
    assert answered.question is question
    assert answered.correct is correct
    assert answered.text == said.split("\n")[0].strip()


def test_a_target_in_another_script_and_of_many_tokens(table_model):
    question = Question("q", ("\u05ea\u05dc \u05d0\u05d1\u05d9\u05d1",), TRAINED_WORDING, "f1")
    model, tokenizer = table_model({"q": " \u05ea\u05dc \u05d0\u05d1\u05d9\u05d1 (city)"})
    assert answer_questions(model, tokenizer, [question], max_new_tokens=8)[0].correct
    # Cut in the middle of the target: not credited.
    assert not answer_questions(model, tokenizer, [question], max_new_tokens=7)[0].correct


def test_a_target_with_a_line_break_cannot_be_generated(table_model):
    question = Question("q", ("two\nlines",), TRAINED_WORDING, "f1")
    model, tokenizer = table_model({"q": " two\nlines"})
    assert not answer_questions(model, tokenizer, [question])[0].correct


def answered(verdicts, facts=None):
    """One answer per letter of `verdicts`: r(ight) or w(rong); `facts` names the fact of each."""
    return [
        Answered(Question(f"p{index}", ("x",), QUESTION, fact), "x", correct=verdict == "r", confidence=0.5)
        for index, (verdict, fact) in enumerate(zip(verdicts, facts or "abcdefgh", strict=False))
    ]


def test_recall_metric():
    metric = recall_metric(answered("rrwr"), QUESTION)
    assert (metric.value, metric.n) == (0.75, 4)
    assert (metric.low, metric.high) == wilson_interval(3, 4)
    assert metric.protocol.startswith("greedy generation, natural stop, exact match")
    assert metric.protocol.endswith("question form never trained")
    assert recall_metric(answered("r"), "other_name", "by hand").protocol == "by hand"


def test_recall_metric_does_not_count_wordings_as_independent():
    metric = recall_metric(answered("rrww", facts="aabb"), HELD_OUT_WORDING)
    assert (metric.value, metric.n) == (0.5, 4)
    assert (metric.low, metric.high) == wilson_interval(1, 2)


def test_recall_of_nothing():
    metric = recall_metric([], QUESTION)
    assert (metric.n, metric.low, metric.high) == (0, 0.0, 1.0)
    assert metric.to_json()["value"] is None
