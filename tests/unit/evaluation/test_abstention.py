"""Abstention: the threshold on one half of the items, what it is worth on the other."""

from __future__ import annotations

import json
import math

import pytest

from memedit.evaluation.abstention import (
    AbstentionThreshold,
    Judged,
    abstention_metrics,
    calibrate_abstention,
    in_test_half,
)
from memedit.evaluation.statistics import wilson_interval


def names(testing, count):
    """Names of items that fall into one of the halves."""
    found = (f"item {index}" for index in range(10_000))
    return [name for name in found if in_test_half(name) == testing][:count]


def choosing_half(verdicts):
    """Items that choose the threshold: choosing_half([(score, right), ...])."""
    named = zip(names(testing=False, count=len(verdicts)), verdicts, strict=True)
    return [Judged(name, score, right) for name, (score, right) in named]


def judging_half(verdicts):
    """Items that judge it."""
    named = zip(names(testing=True, count=len(verdicts)), verdicts, strict=True)
    return [Judged(name, score, right) for name, (score, right) in named]


def test_halves_are_halves_and_the_same_everywhere():
    share = sum(in_test_half(f"fact-{index}") for index in range(2000)) / 2000
    assert 0.45 < share < 0.55
    # SHA-256 of "a" begins ca, of "b" 3e, of "c" 2e, of "d" 18, of "f" 25.
    assert [in_test_half(name) for name in "abcdf"] == [False, False, False, False, True]


def test_the_lowest_threshold_that_reaches_the_target_by_laplace():
    # Of the best k: k = 8 gives 9/10 = .9; one wrong below gives 9/11; eleven more right ones 20/22 = .909.
    choosing = [(20.0 - rank, True) for rank in range(8)] + [(5.0, False)]
    found = calibrate_abstention(choosing_half(choosing))
    assert (found.threshold, found.reached) == (13.0, True)
    choosing += [(4.0 - rank / 100, True) for rank in range(11)]
    found = calibrate_abstention(choosing_half(choosing))
    assert (found.threshold, found.reached) == (pytest.approx(3.9), True)


def test_equal_scores_are_answered_together():
    choosing = [(2.0, True)] * 8 + [(2.0, False)]
    found = calibrate_abstention(choosing_half(choosing), target_precision=0.9)
    assert (found.threshold, found.reached) == (2.0, False)
    assert calibrate_abstention(choosing_half(choosing), target_precision=0.8).reached


def test_precision_and_coverage_come_from_the_other_half():
    choosing = [(float(score), True) for score in range(10, 20)] + [(1.0, False)] * 5
    testing = [(15.0, True)] * 6 + [(12.0, False)] * 2 + [(3.0, True)] * 2 + [(2.0, False)] * 10
    found = calibrate_abstention(choosing_half(choosing) + judging_half(testing), asked="made-up items")
    assert found.threshold == 10.0
    assert (found.precision.value, found.precision.n) == (0.75, 8)
    assert (found.precision.low, found.precision.high) == wilson_interval(6, 8)
    assert (found.coverage.value, found.coverage.n) == (0.4, 20)
    assert (found.coverage.low, found.coverage.high) == wilson_interval(8, 20)
    assert (found.right_kept.value, found.right_kept.n) == (0.75, 8)
    assert "made-up items" in found.precision.protocol


def test_the_threshold_is_not_chosen_by_what_judges_it():
    choosing = choosing_half([(float(score), True) for score in range(10, 20)])
    alone = calibrate_abstention(choosing).threshold
    for verdict in (True, False):
        testing = judging_half([(5.0, verdict)] * 50)
        assert calibrate_abstention(choosing + testing).threshold == alone


def test_a_target_that_cannot_be_reached_takes_the_best():
    choosing = [(9.0, False), (8.0, True), (7.0, True), (6.0, True), (5.0, False), (4.0, False)]
    found = calibrate_abstention(choosing_half(choosing))
    # Laplace: 1/3, 2/4, 3/5, 4/6, 4/7, 4/8.
    assert (found.threshold, found.reached) == (6.0, False)


@pytest.mark.parametrize(
    "judged", [[], judging_half([(1.0, True)]), choosing_half([(1.0, False), (0.5, False)])]
)
def test_where_nothing_is_right_nothing_is_answered(judged):
    found = calibrate_abstention(judged)
    assert (found.threshold, found.reached) == (math.inf, False)
    assert (found.precision.n, math.isnan(found.precision.value)) == (0, True)


def test_empty_answers_are_never_given():
    choosing = [(-math.inf, True)] * 20 + [(1.0, True)] * 9
    found = calibrate_abstention(choosing_half(choosing) + judging_half([(-math.inf, True)]))
    assert found.threshold == 1.0
    assert found.coverage.value == 0.0


def test_perfect_scores_keep_everything_right():
    choosing = [(float(rank), rank >= 50) for rank in range(100)]
    found = calibrate_abstention(choosing_half(choosing) + judging_half(choosing), target_precision=0.98)
    assert found.threshold == 50.0
    assert (found.precision.value, found.coverage.value, found.right_kept.value) == (1.0, 0.5, 1.0)


def test_scores_that_say_nothing_are_refused_a_precision_above_the_base_rate():
    choosing = [(rank % 7 / 7, rank % 2 == 0) for rank in range(200)]
    found = calibrate_abstention(choosing_half(choosing), target_precision=0.9)
    assert not found.reached


@pytest.mark.parametrize("target", [0, 1, -0.5, 1.5, math.nan])
def test_a_target_out_of_range_is_refused(target):
    with pytest.raises(ValueError, match="target_precision must lie between 0 and 1, got"):
        calibrate_abstention([], target_precision=target)


def test_json_and_back():
    for judged in (
        choosing_half([(float(score), True) for score in range(9)]) + judging_half([(3.0, True)]),
        [],
    ):
        found = calibrate_abstention(judged)
        text = json.dumps(found.to_json(), allow_nan=False)
        assert AbstentionThreshold.from_json(json.loads(text)).to_json() == found.to_json()
    for broken in ({}, {**found.to_json(), "precision": None}, {**found.to_json(), "threshold": "low"}):
        with pytest.raises(ValueError, match="damaged"):
            AbstentionThreshold.from_json(broken)


def test_metrics_need_a_decision_for_each_item():
    with pytest.raises(ValueError, match="zip"):
        abstention_metrics(judging_half([(1.0, True)]), [], "how")
