"""Figures made of several means: by hand, and with intervals that resample facts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.evaluation.combined_means import combined_difference, combined_metric, harmonic_mean
from memedit.evaluation.samples import Sample
from memedit.evaluation.statistics import wilson_interval


def group(values, facts=None):
    names = facts or [str(index) for index in range(len(values))]
    return [
        Sample("m", f"{name}/{index}", name, "p", (), "", float(value))
        for index, (name, value) in enumerate(zip(names, values, strict=True))
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 1, 1], 1), ([0.5, 1, 1], 0.75), ([0, 1, 1], 0), ([0.25], 0.25), ([1, 1e-320], 0)],
)
def test_harmonic_mean(values, expected):
    assert harmonic_mean(values) == pytest.approx(expected)


def test_harmonic_mean_of_nothing():
    assert math.isnan(harmonic_mean([]))


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
def test_harmonic_mean_is_the_reciprocal_of_the_mean_reciprocal(values):
    assert harmonic_mean(values) == pytest.approx(1 / np.mean(1 / np.array(values)))


def test_a_combined_metric_by_hand():
    found = combined_metric("s", [group([1, 0, 1, 0]), group([1, 1, 1, 0])], harmonic_mean, "how")
    assert found.value == pytest.approx(2 / (1 / 0.5 + 1 / 0.75))
    assert (found.n, found.protocol) == (4, "how")
    assert 0 <= found.low < found.value < found.high <= 1


def test_a_metric_of_one_group_has_the_bootstrap_of_its_mean():
    generator = np.random.default_rng(1)
    values = generator.random(200)
    found = combined_metric("s", [group(values)], harmonic_mean, "how")
    half = 1.96 * values.std() / math.sqrt(200)
    assert found.low == pytest.approx(values.mean() - half, abs=half / 5)
    assert found.high == pytest.approx(values.mean() + half, abs=half / 5)


def test_means_of_the_same_facts_move_together():
    # Where one mean falls the other rises by as much: their average never moves.
    first, second = group([1, 0] * 20), group([0, 1] * 20)
    found = combined_metric("s", [first, second], lambda means: sum(means) / 2, "how")
    low, high = wilson_interval(20, 40)
    assert (found.value, found.low, found.high) == (0.5, low, high)


def test_without_spread_the_ends_come_from_the_means():
    found = combined_metric("s", [group([1] * 10), group([1] * 10)], harmonic_mean, "how")
    assert (found.value, found.low, found.high) == (1, *wilson_interval(10, 10))


def test_wordings_of_a_fact_are_drawn_together_and_means_count_wordings():
    facts = ["a", "a", "a", "b"]
    found = combined_metric("s", [group([1, 1, 1, 0], facts), group([1, 0], ["a", "b"])], min, "how")
    assert (found.value, found.n) == (0.5, 2)


def test_a_group_that_few_facts_are_in():
    found = combined_metric("s", [group([1, 0] * 10), group([0.5, 0.25], ["0", "1"])], harmonic_mean, "how")
    assert found.value == pytest.approx(2 / (1 / 0.5 + 1 / 0.375))
    assert math.isfinite(found.low)
    assert found.low < found.value < found.high


def test_a_difference_is_paired():
    base = [group([1, 0] * 20), group([1, 1, 0, 0] * 10)]
    edited = [group([1, 0] * 19 + [0, 0]), group([1, 1, 0, 0] * 10)]
    found = combined_difference("s", base, [edited[0][::-1], edited[1]], harmonic_mean, "how")
    assert found.value == pytest.approx(harmonic_mean([19 / 40, 0.5]) - 0.5)
    assert -0.06 < found.low < found.high <= 0
    assert found.protocol == "how; edited minus base, paired bootstrap over 40 clusters"
    same = combined_difference("s", base, base, harmonic_mean, "how")
    # Nothing changed in any of 40 facts: others may change, as many as Wilson's interval leaves room for.
    reach = 1 - wilson_interval(40, 40)[0]
    assert (same.value, same.low, same.high) == (0, -reach, reach)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"sizes \[2, 0\]"):
        combined_metric("s", [group([1, 0]), []], harmonic_mean, "how")
    with pytest.raises(ValueError, match="same items"):
        combined_difference("s", [group([1, 0])], [group([1])], harmonic_mean, "how")
