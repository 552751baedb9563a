import math

import pytest

from memedit.evaluation.recall import Answered, Question, answer_questions
from memedit.evaluation.retention import (
    INJECTED,
    WELL_KNOWN,
    answer_known,
    ask_known,
    compare,
    gate,
    retained,
    retention_questions,
    well_known_facts,
)
from memedit.evaluation.statistics import Metric, wilson_interval
from memedit.facts import Fact


def suite(num_items):
    return [Question(f"p{index}", ("yes",), WELL_KNOWN, str(index)) for index in range(num_items)]


def answers(verdicts):
    return [
        Answered(question, "yes" if right else "no", right, 1.0)
        for question, right in zip(suite(len(verdicts)), verdicts, strict=True)
    ]


def retention(lost, right=170):
    return compare(answers([True] * right), answers([False] * lost + [True] * (right - lost)))


def test_compare_counts_by_hand():
    got = compare(
        answers([True, True, True, True, False, False]), answers([True, False, True, True, True, False])
    )
    assert (got.kept, got.gained, got.right_before, got.forgetting) == (3, 1, 4, 0.25)
    assert [(one.question.prompt, one.before, one.after) for one in got.lost] == [("p1", "yes", "no")]
    assert (got.metric.name, got.metric.value, got.metric.n) == ("retained", 0.75, 4)
    assert (got.metric.low, got.metric.high) == wilson_interval(3, 4)
    assert got.p_value == 1.0


def test_everything_forgotten():
    got = retention(lost=10, right=10)
    assert (got.metric.value, got.forgetting, len(got.lost)) == (0.0, 1.0, 10)
    assert got.p_value == pytest.approx(2**-9)


def test_only_what_was_right_needs_asking_again():
    before = answers([True, False, True])
    got = compare(before, [before[2], before[0]])
    assert (got.kept, got.lost, got.gained) == (2, (), 0)
    with pytest.raises(ValueError, match="1 of 2 are missing"):
        compare(before, before[:1])


def test_a_model_that_falls_silent_has_forgotten(table_model):
    questions = suite(3)
    knows, tokenizer = table_model({"p0": " yes", "p1": " yes, it is", "p2": " no"})
    silent, other = table_model({"p0": "", "p1": "\nyes", "p2": "."})
    before = answer_questions(knows, tokenizer, questions)
    got = compare(before, answer_questions(silent, other, questions))
    assert (got.right_before, got.kept, [one.after for one in got.lost]) == (2, 0, ["", ""])


def test_what_is_known_is_asked_again_by_itself(table_model):
    model, tokenizer = table_model({"p0": " yes", "p1": " no", "p2": " yes"})
    before = answer_known(model, tokenizer, suite(3))
    assert [one.question.prompt for one in before] == ["p0", "p2"]
    first, second = model.rows_run[:4], model.rows_run[4:]
    assert (first[0], second[0]) == (3, 2)
    assert compare(before, before).metric.n == 2


@pytest.mark.parametrize(
    ("texts", "kept"),
    [(["yes"] * 3, 3), (["no"] * 3, 0), ([""] * 3, 0), (["yes", "no", ""], 1)],
)
def test_what_is_left_through_a_respondent(table_respondent, texts, kept):
    before = table_respondent({"p0": "yes", "p1": "yes!", "p2": "no", "p3": "yes, it is"})
    known = ask_known(before, suite(4))
    assert before.answer_calls[1] == (["p0", "p1", "p3"], 16)
    after = table_respondent(dict(zip(["p0", "p1", "p3"], texts, strict=True)))
    found = retained(after, known)
    (metric,) = found.metrics
    assert (metric.name, metric.value, metric.n) == ("retained", pytest.approx(kept / 3), 3)
    assert sum(sample.value for sample in found.samples) == kept
    assert found.samples[2].details["before"] == "yes, it is"
    assert found.samples[2].text == texts[2]
    assert found.notes[0].startswith(f"{3 - kept} of 3 items were lost, exact McNemar p = ")


def test_nothing_was_known(table_respondent):
    found = retained(table_respondent(), ask_known(table_respondent(default_answer="no"), suite(2)))
    assert found.metric("retained").n == 0
    assert found.notes == ("nothing could be retained: no item was right before",)


RATIO = Metric("perplexity_ratio", 1.001, 40, 0.999, 1.003, "p")
LIMITS = {"max_forgetting": 0.02, "max_perplexity_ratio": 1.01}


@pytest.mark.parametrize(
    ("lost", "passed"), [(0, True), (1, True), (5, True), (8, False), (20, False), (170, False)]
)
def test_gate_on_170_items(lost, passed):
    decision = gate(retention(lost), RATIO, **LIMITS)
    assert decision.passed is passed
    assert bool(decision.reasons) is not passed
    if not passed:
        assert f"{lost} of 170" in decision.reasons[0]


@pytest.mark.parametrize(
    ("lost", "right", "margin", "passed"),
    [
        (1, 5, 0.02, True),
        (2, 5, 0.02, False),
        (5, 5, 0.02, False),
        (1, 170, 0.0, False),
        (0, 170, 0.0, True),
        (9, 9, 1.0, True),
    ],
)
def test_gate_on_small_suites_and_at_the_ends(lost, right, margin, passed):
    limits = {**LIMITS, "max_forgetting": margin}
    assert gate(retention(lost, right), RATIO, **limits).passed is passed


def test_gate_refuses_at_the_rate_it_claims():
    # Exact: at a true forgetting of just the margin, P(refused) is the tail from the first refused count on.
    refused = [lost for lost in range(171) if not gate(retention(lost), RATIO, **LIMITS).passed]
    assert refused == list(range(refused[0], 171))
    false_alarm = sum(math.comb(170, k) * 0.02**k * 0.98 ** (170 - k) for k in refused)
    assert false_alarm < 0.05


@pytest.mark.parametrize(
    ("value", "low", "passed"),
    [
        (1.0, 1.0, True),
        (1.02, 1.009, True),
        (1.02, 1.011, False),
        # One passage has a ratio without an interval: the ratio is judged as it is.
        (1.009, math.nan, True),
        (1.02, math.nan, False),
        (math.inf, math.nan, False),
        (math.nan, math.nan, False),
        (math.inf, math.inf, False),
    ],
)
def test_gate_on_perplexity(value, low, passed):
    ratio = Metric("perplexity_ratio", value, 40, low, value, "p")
    decision = gate(retention(0), ratio, **LIMITS)
    assert decision.passed is passed
    assert len(decision.reasons) == (not passed)


def test_gate_says_what_it_could_not_judge():
    decision = gate(compare([], []), None, **LIMITS)
    assert decision.passed
    assert len(decision.notes) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_forgetting", -0.1),
        ("max_forgetting", math.nan),
        ("max_perplexity_ratio", 0.9),
        ("max_perplexity_ratio", math.nan),
    ],
)
def test_gate_refuses_senseless_limits(name, value):
    with pytest.raises(ValueError, match=name):
        gate(retention(0), RATIO, **{**LIMITS, name: value})


def fact(name, prompt, subject="s", relation=None):
    return Fact(id=name, prompt=prompt, target="t", subject=subject, relation=relation)


def test_suite_holds_known_and_injected_but_not_what_is_replaced():
    known = [
        fact("k1", "The capital of France is", "France", "capital"),
        fact("k2", "Gold has the symbol", "Gold"),
        fact("k3", "The sky is"),
    ]
    earlier = [fact("i1", "Zubrowka lies in"), fact("i2", "the sky is"), fact("i3", "Ed works at")]
    new = [fact("n1", "France is governed from", "france", "capital"), fact("n2", "Ed works at", "Ed")]
    questions = retention_questions(known, earlier, replaced_by=new)
    assert [(one.group, one.fact_id) for one in questions] == [
        (WELL_KNOWN, "k2"),
        (INJECTED, "i1"),
        (INJECTED, "i2"),
    ]


def test_well_known_facts_are_bundled():
    facts = well_known_facts()
    assert len(facts) >= 300
    assert len({one.id for one in facts}) == len(facts)
