import json
import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from memedit.evaluation.statistics import (
    Metric,
    auroc,
    auroc_metric,
    binomial_tail,
    bootstrap_interval,
    mcnemar_exact,
    paired_bootstrap_ratio,
    share_metric,
    widened_interval,
    wilson_interval,
)


# Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3 (score without continuity correction).
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_published_values(successes, n, low, high):
    assert wilson_interval(successes, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_mirrors_and_ends():
    low, high = wilson_interval(20, 20)
    assert (low, high) == (pytest.approx(1 - 0.1611, abs=5e-5), 1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, n)


def test_share_metric_counts_clusters_for_the_interval():
    alone = share_metric("recall", 30, 40, "p")
    clustered = share_metric("recall", 30, 40, "p", num_clusters=20)
    assert (alone.value, alone.n) == (clustered.value, clustered.n) == (0.75, 40)
    assert (clustered.low, clustered.high) == wilson_interval(15, 20)
    assert share_metric("recall", 3, 4, "p", num_clusters=9) == share_metric("recall", 3, 4, "p")


def test_a_metric_without_items_is_null_in_json():
    metric = share_metric("recall", 0, 0, "p")
    assert math.isnan(metric.value)
    expected = {"name": "recall", "value": None, "n": 0, "low": 0.0, "high": 1.0, "protocol": "p"}
    assert json.loads(json.dumps(metric.to_json(), allow_nan=False)) == expected


def test_metric_json():
    metric = Metric("leak", 0.25, 8, 0.1, 0.5, "p")
    assert metric.to_json() == {
        "name": "leak",
        "value": 0.25,
        "n": 8,
        "low": 0.1,
        "high": 0.5,
        "protocol": "p",
    }


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 0.0625),
        (6, 0, 0.03125),
        (1, 8, 20 / 512),
        (4, 4, 1.0),
        (3000, 3000, 1.0),
    ],
)
def test_mcnemar(lost, gained, p):
    assert mcnemar_exact(lost, gained) == pytest.approx(p)
    assert mcnemar_exact(gained, lost) == mcnemar_exact(lost, gained)


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(ValueError, match="lost"):
        mcnemar_exact(-1, 0)


def test_binomial_tail_against_exact_sums():
    exact = sum(math.comb(10, k) * 0.2**k * 0.8 ** (10 - k) for k in range(4, 11))
    assert binomial_tail(4, 10, 0.2) == pytest.approx(exact)
    assert binomial_tail(10, 10, 0.5) == pytest.approx(2**-10)
    assert binomial_tail(0, 10, 0.2) == 1.0
    assert binomial_tail(1, 10, 0.0) == 0.0
    assert binomial_tail(3, 10, 1.0) == 1.0
    with pytest.raises(ValueError, match="share"):
        binomial_tail(1, 10, 1.5)


def test_auroc():
    assert auroc([3, 4], [1, 2]) == 1.0
    assert auroc([1, 2], [3, 4]) == 0.0
    assert auroc([1, 1], [1, 1]) == 0.5
    # Pairs: (2,1) win, (2,2) tie, (2,3) loss, (4,*) three wins: 4.5 of 6.
    assert auroc([2, 4], [1, 2, 3]) == pytest.approx(0.75)
    assert math.isnan(auroc([], [1.0]))


def test_bootstrap_interval():
    assert bootstrap_interval([0.3] * 7, seed=0) == (pytest.approx(0.3), pytest.approx(0.3))
    # Bounded values that all agree leave room for others, and one unbounded value says nothing of others.
    reach = 1 - wilson_interval(7, 7)[0]
    widened = bootstrap_interval([0.3] * 7, seed=0, bounds=(0.0, 1.0))
    assert widened == pytest.approx((max(0, 0.3 - reach), 0.3 + reach))
    assert all(map(math.isnan, bootstrap_interval([0.3], seed=0)))
    values = [float(index % 2) for index in range(400)]
    low, high = bootstrap_interval(values, seed=1)
    # Normal theory: 0.5 +- 1.96 * 0.5 / 20; percentiles of 2,000 resamples scatter by about 0.002.
    assert (low, high) == (pytest.approx(0.451, abs=0.008), pytest.approx(0.549, abs=0.008))
    assert bootstrap_interval(values, seed=1) == (low, high)
    assert all(map(math.isnan, bootstrap_interval([], seed=0)))


def test_paired_ratio_is_exact_and_paired():
    before, counts = [50.0, 300.0, 90.0], [10, 100, 30]
    assert paired_bootstrap_ratio(before, before, counts, seed=0) == (1.0, 1.0, 1.0)
    # Every token costs 0.01 nats more: no spread, however different the passages are.
    after = [nll + 0.01 * count for nll, count in zip(before, counts, strict=True)]
    assert paired_bootstrap_ratio(before, after, counts, seed=0) == (pytest.approx(math.exp(0.01)),) * 3
    uneven = [55.0, 300.0, 85.0]
    value, low, high = paired_bootstrap_ratio(before, uneven, counts, seed=0)
    assert value == pytest.approx(1.0)
    # The extremes: only the first passage drawn, or only the third.
    assert math.exp(-5 / 30) - 1e-9 <= low < 1 < high <= math.exp(5 / 10) + 1e-9


def test_paired_ratio_of_a_broken_model():
    assert all(map(math.isnan, paired_bootstrap_ratio([1.0, 2.0], [math.nan, 2.0], [3, 3], seed=0)))
    assert paired_bootstrap_ratio([0.0] * 2, [1e9] * 2, [1, 1], seed=0) == (math.inf,) * 3
    with pytest.raises(ValueError, match="one entry per chunk"):
        paired_bootstrap_ratio([1.0], [1.0, 2.0], [1], seed=0)


def test_one_passage_has_a_ratio_and_no_interval():
    value, low, high = paired_bootstrap_ratio([10.0], [11.0], [10], seed=0)
    assert value == pytest.approx(math.exp(0.1))
    assert math.isnan(low)
    assert math.isnan(high)


def test_a_spread_is_left_as_it_is():
    assert widened_interval((0.2, 0.4), 0.3, 1) == (0.2, 0.4)
    assert widened_interval((0.3, 0.3), 0.3, 1) == pytest.approx((0, 1))
    assert widened_interval((0.9, 0.9), 0.9, 10, (-1.0, 1.0)) == (0.9 - 1 + wilson_interval(10, 10)[0], 1.0)
    assert all(map(math.isnan, widened_interval((math.nan, math.nan), 0.3, 4)))


def test_auroc_is_mann_whitneys():
    draws = np.random.default_rng(0)
    for n, m in ((1, 1), (5, 40), (200, 300)):
        above = draws.normal(0.5, 1, n).round(1).tolist()
        below = draws.normal(0, 1, m).round(1).tolist()
        expected = mannwhitneyu(above, below).statistic / (n * m)
        assert auroc(above, below) == pytest.approx(expected)
        pairs = [[(str(place), score) for place, score in enumerate(side)] for side in (above, below)]
        metric = auroc_metric("a", *pairs, "p", seed=0)
        assert metric.value == pytest.approx(expected)
        assert (metric.n, metric.low <= metric.value <= metric.high) == (n + m, True)


def test_the_interval_of_an_auroc_is_hanley_and_mcneils():
    """Hanley and McNeil (1982): the standard error for exponential scores; ours does not assume them."""
    draws = np.random.default_rng(1)
    above, below = draws.exponential(2.0, 150), draws.exponential(1.0, 150)
    metric = auroc_metric(
        "a",
        [(str(i), x) for i, x in enumerate(above)],
        [(str(i), x) for i, x in enumerate(below)],
        "p",
        seed=0,
    )
    value, n = metric.value, 150
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    error = math.sqrt((value * (1 - value) + (n - 1) * (q1 + q2 - 2 * value**2)) / n**2)
    assert (metric.high - metric.low) / (2 * 1.96) == pytest.approx(error, rel=0.15)


def test_an_auroc_draws_clusters():
    scores = [(str(place // 10), float(place // 10 % 3)) for place in range(60)]
    alone = [(str(place), score) for place, (_, score) in enumerate(scores)]
    below = [(str(place), float(place % 2)) for place in range(60)]
    together, apart = (auroc_metric("a", side, below, "p", seed=0) for side in (scores, alone))
    assert together.value == apart.value
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_an_auroc_of_sides_wholly_apart_is_not_certain():
    metric = auroc_metric("a", [("x", 1.0), ("y", 2.0)], [("z", 0.0)] * 9, "p", seed=0)
    assert (metric.value, metric.high) == (1.0, 1.0)
    assert metric.low == wilson_interval(1, 1)[0]
    tied = auroc_metric("a", [("x", 1.0), ("y", 1.0)], [("z", 1.0)], "p", seed=0)
    assert (tied.value, tied.low, tied.high) == (0.5, *widened_interval((0.5, 0.5), 0.5, 1))
    nothing = auroc_metric("a", [], [("z", 0.0)], "p", seed=0)
    assert (math.isnan(nothing.value), nothing.n) == (True, 1)
