"""Forgetting where trajectories first reach a level of recall."""

from __future__ import annotations

import pytest

from memedit.baselines.equal_learning import Point, crossing, equal_learning
from memedit.evaluation.statistics import wilson_interval

START = Point(0.0, 0.0, 0.0)
PATH = [START, Point(10.0, 0.4, 0.1), Point(20.0, 0.8, 0.3), Point(30.0, 0.6, 0.5)]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (0.0, (0.0, 0.0)),
        (0.2, (5.0, 0.05)),
        (0.4, (10.0, 0.1)),
        (0.6, (15.0, 0.2)),
        (0.8, (20.0, 0.3)),
    ],
)
def test_a_level_is_reached_on_the_line_between_two_passes(level, expected):
    point = crossing(PATH, level)
    assert (point.seconds, point.lost) == pytest.approx(expected)


def test_a_level_beyond_the_best_is_not_reached():
    assert crossing(PATH, 0.81) is None
    assert crossing([START], 0.1) is None


def test_methods_are_compared_where_all_seeds_are():
    worse = [START, Point(10.0, 0.5, 0.4)]
    found = equal_learning({"first": [PATH, PATH[:2]], "second": [worse]}, 40)
    assert found["common_level"] == 0.4
    assert found["not_reached"] == []
    (common,) = [one for one in found["levels"] if one["held_out"] == 0.4]
    assert common["methods"]["first"]["lost"] == pytest.approx(0.1)
    assert common["methods"]["second"]["lost"] == pytest.approx(0.32)
    low, high = wilson_interval(0.32 * 40, 40)
    assert (common["methods"]["second"]["low"], common["methods"]["second"]["high"]) == pytest.approx(
        (low, high)
    )
    assert common["methods"]["second"]["training_seconds"] == pytest.approx(8.0)
    (half,) = [one for one in found["levels"] if one["held_out"] == 0.5]
    # One of its seeds does not get there.
    assert half["methods"]["first"] is None
    assert half["methods"]["second"]["lost_by_seed"] == pytest.approx([0.4])


def test_a_method_that_hardly_learns_does_not_lower_the_level():
    found = equal_learning({"good": [PATH], "bad": [[START, Point(1.0, 0.1, 0.0)]]}, 40)
    assert found["common_level"] == 0.8
    assert found["not_reached"] == ["bad"]


def test_nothing_to_compare():
    assert equal_learning({}, 0)["common_level"] is None
