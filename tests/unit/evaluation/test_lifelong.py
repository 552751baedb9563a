"""The retention matrix and what follows from it, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain

import pytest

from memedit.evaluation.edit_age import age_name, retained_by_age
from memedit.evaluation.last_written import last_written_leak
from memedit.evaluation.lifelong import ask_batches, lifelong, retention_matrix
from memedit.evaluation.samples import Sample
from memedit.facts import Fact

NAN = math.nan


def fact(name, target=None):
    return Fact(id=name, prompt=f"{name} is in", target=target or f"City{name}", subject=name)


BATCHES = [[fact("a"), fact("b")], [fact("c"), fact("d")], [fact("e"), fact("f", "Rio\nde Janeiro")]]
# Which facts are right after each update.
RIGHT = ["ab", "bcd", "be"]


def hold_round(table_respondent, update, right, wrong="Nowhere"):
    batches = BATCHES[:update]
    answers = {
        one.prompt: (one.target if one.id in right else wrong, 0.9) for batch in batches for one in batch
    }
    return ask_batches(table_respondent(answers), batches)


@pytest.fixture
def rounds(table_respondent):
    return [hold_round(table_respondent, update, right) for update, right in enumerate(RIGHT, start=1)]


def test_the_matrix(rounds):
    matrix = retention_matrix(chain.from_iterable(rounds))
    assert matrix.scores[0] == (1.0, pytest.approx(NAN, nan_ok=True), pytest.approx(NAN, nan_ok=True))
    assert matrix.scores[1][:2] == (0.5, 1.0)
    assert matrix.scores[2] == (0.5, 0.0, 0.5)
    assert matrix.sizes == (2, 2, 2)
    assert matrix.to_json()["scores"][0] == [1.0, None, None]


def test_the_matrix_of_samples_among_others_and_of_none(rounds):
    first, _, last = rounds
    other = Sample("learned", "a/prompt", "a", "", (), "", 0.0)
    renamed = [replace(one, item=f"{one.item}/after-3") for one in last]
    matrix = retention_matrix([*renamed, other, *first])
    assert matrix.to_json() == {
        "scores": [[1.0, None, None], [None, None, None], [0.5, 0.0, 0.5]],
        "sizes": [2, 2, 2],
    }
    assert retention_matrix([other]).to_json() == {"scores": [], "sizes": []}


def test_a_matrix_of_rounds_that_contradict_each_other_is_refused(rounds):
    with pytest.raises(ValueError, match=r"round 2 must hold update 2 and batches 1 to 2, got .* batch 3"):
        retention_matrix(replace(one, details={**one.details, "update": 2}) for one in rounds[2])
    with pytest.raises(ValueError, match="round 2 must hold all facts of batch 1 or none"):
        retention_matrix([*rounds[0], *rounds[1][1:]])


def test_transfer_and_forgetting_by_hand(rounds):
    values = {metric.name: metric for metric in lifelong(rounds).metrics}
    assert values["average_score"].value == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert values["learning_score"].value == pytest.approx((1 + 1 + 0.5) / 3)
    assert values["backward_transfer"].value == pytest.approx(((0.5 - 1) + (0 - 1)) / 2)
    assert values["forgetting"].value == pytest.approx(0.75)
    assert [values[name].n for name in ("average_score", "backward_transfer", "forgetting")] == [6, 4, 4]
    # Right after their own update: a, b; c, d; e. In the end: b; none; e.
    assert (values["retained_age_2_to_3"].value, values["retained_age_2_to_3"].n) == (0.5, 2)
    assert (values["retained_age_1"].value, values["retained_age_1"].n) == (0.0, 2)
    assert (values["retained_age_0"].value, values["retained_age_0"].n) == (1.0, 1)
    assert (values["last_written_leak"].value, values["last_written_leak"].n) == (0.0, 4)
    for metric in values.values():
        assert metric.low <= metric.value <= metric.high


def test_forgetting_looks_at_the_best_earlier_round(table_respondent):
    """Recovered and lost again: from the best round, not from the first."""
    rounds = [hold_round(table_respondent, number, right) for number, right in ((1, "a"), (2, "ab"), (3, ""))]
    found = lifelong(rounds)
    assert found.metric("backward_transfer").value == pytest.approx((-0.5 + 0) / 2)
    assert found.metric("forgetting").value == pytest.approx((1.0 + 0) / 2)


def test_everything_forgotten(table_respondent):
    rounds = [
        hold_round(table_respondent, number, right) for number, right in ((1, "ab"), (2, "cd"), (3, ""))
    ]
    found = lifelong(rounds)
    assert found.metric("average_score").value == 0.0
    transfer = found.metric("backward_transfer")
    # All alike: the interval still says that four facts are few.
    assert (transfer.value, transfer.low) == (-1.0, -1.0)
    assert -0.6 < transfer.high < -0.4
    assert found.metric("forgetting").value == 1.0
    assert found.metric("retained_age_1").value == 0.0


def test_nothing_forgotten_and_empty_answers(table_respondent):
    rounds = [hold_round(table_respondent, number, "abcdef", wrong="") for number in (1, 2, 3)]
    found = lifelong(rounds)
    # A target that holds a line break is never generated before the natural stop, so f is not there.
    assert found.metric("backward_transfer").value == 0.0
    assert found.metric("average_score").high == 1.0
    silent = [hold_round(table_respondent, number, "", wrong="") for number in (1, 2, 3)]
    assert lifelong(silent).metric("learning_score").value == 0.0
    assert "retained_age_0" not in [metric.name for metric in lifelong(silent).metrics]


def test_rounds_may_be_missing(rounds):
    found = lifelong([rounds[0], (), rounds[2]])
    assert found.notes == (
        "not asked right after their own update, and left out of what needs it: batches 2",
    )
    assert found.metric("backward_transfer").value == pytest.approx(-0.5)
    # Batch 2 was asked at the end alone.
    assert (found.metric("forgetting").value, found.metric("forgetting").n) == (pytest.approx(0.5), 2)
    assert found.metric("average_score").n == 6
    only_last = lifelong([(), (), rounds[2]])
    assert math.isnan(only_last.metric("forgetting").value)
    assert only_last.metric("learning_score").n == 2


def test_one_update_has_no_transfer(table_respondent):
    found = lifelong([hold_round(table_respondent, 1, "ab")])
    assert math.isnan(found.metric("backward_transfer").value)
    assert found.metric("backward_transfer").n == 0
    assert found.metric("learning_score").value == 1.0


def test_rounds_that_contradict_each_other_are_refused(rounds):
    with pytest.raises(ValueError, match="got none"):
        lifelong([rounds[0], ()])
    with pytest.raises(ValueError, match="must hold update 1"):
        lifelong(rounds[1:])
    with pytest.raises(ValueError, match="all facts of batch 1"):
        lifelong([rounds[0], rounds[1][1:], rounds[2]])


def test_the_interval_of_a_transfer_covers_the_truth():
    """Facts are lost with probability 0.3: of 60 intervals some 95 % hold -0.3."""
    import numpy as np

    draws = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        kept = draws.random(60) > 0.3
        first = [Sample("r", str(i), str(i), "", (), "", 1.0, {"batch": 1, "update": 1}) for i in range(60)]
        last = [
            Sample("r", str(i), str(i), "", (), "", float(right), {"batch": 1, "update": 2})
            for i, right in enumerate(kept)
        ]
        metric = lifelong([first, last], seed=trial).metric("backward_transfer")
        covered += metric.low <= -0.3 <= metric.high
    assert covered >= 52


@pytest.mark.parametrize(
    ("age", "name"),
    [
        (0, "retained_age_0"),
        (1, "retained_age_1"),
        (2, "retained_age_2_to_3"),
        (15, "retained_age_8_to_15"),
        (64, "retained_age_64_or_more"),
        (5000, "retained_age_64_or_more"),
    ],
)
def test_ages_are_grouped_by_doubling(age, name):
    assert age_name(age) == name


def test_age_without_knowing_what_was_learned(rounds):
    found = retained_by_age(rounds[-1])
    assert {metric.name: metric.value for metric in found.metrics} == {
        "retained_age_0": 0.5,
        "retained_age_1": 0.0,
        "retained_age_2_to_3": 0.5,
    }
    assert "all injected facts" in found.metrics[0].protocol


def answered(item, text, right, expected=("Oslo",)):
    return Sample("m", item, item, "p", expected, text, float(right))


def test_last_written_leak_by_hand():
    samples = [
        answered("a", "It is Quito, I think", 0),
        answered("b", "Quitoa", 0),
        answered("c", "", 0),
        answered("d", "It is Quito", 0, ("Quito",)),
        answered("e", "Quito", 1, ("Quito",)),
        answered("f", "\u6771\u4eac\u3067\u3059", 0),
    ]
    found = last_written_leak(samples, ["Quito", "San Francisco de Quito", "\u6771\u4eac"])
    # Wrong are a, b, c, d and f; d holds its own answer, b another word.
    (metric,) = found.metrics
    assert (metric.value, metric.n) == (pytest.approx(2 / 5), 5)
    assert [sample.details["leaked"] for sample in found.samples] == [["Quito"], [], [], [], ["\u6771\u4eac"]]
    before = {"a": "Somewhere near Quito", "f": "Osaka"}
    again = last_written_leak(samples, ["Quito", "\u6771\u4eac"], before=before)
    assert again.metrics[0].value == pytest.approx(1 / 5)
    assert again.metrics[0].protocol.endswith("not said before")


def test_everything_leaked(table_respondent):
    rounds = [hold_round(table_respondent, number, "", wrong="Citye") for number in (1, 2, 3)]
    leak = lifelong(rounds).metric("last_written_leak")
    # Batch 3 itself expects it of e alone, which is thereby right.
    assert (leak.value, leak.n) == (1.0, 5)
    assert math.isnan(last_written_leak([answered("a", "x", 1)], ["x"]).metrics[0].value)
