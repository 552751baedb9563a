import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, mannwhitneyu

from memedit.evaluation.samples import Sample, difference_metric, mean_metric
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


@pytest.mark.parametrize("n", [1, 2, 7, 40, 263, 2000])
def test_wilson_is_scipys(n):
    for successes in {0, 1, n // 3, n // 2, n - 1, n}:
        expected = binomtest(successes, n).proportion_ci(method="wilson")
        assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("share", [0.005, 0.02, 0.3, 0.5, 0.97])
@pytest.mark.parametrize("n", [1, 5, 170, 3000])
def test_the_gates_tail_is_scipys(n, share):
    for lost in {1, 2, round(share * n), round(share * n) + 4, n}:
        if 0 <= lost <= n:
            exact = binomtest(lost, n, share, "greater")
            # Logarithms of factorials up to 3000! are known to some 1e-12 of their size, 2e4.
            assert binomial_tail(lost, n, share) == pytest.approx(exact.pvalue, rel=1e-7, abs=1e-300)


@pytest.mark.parametrize("n", [5, 40, 170, 1000])
def test_the_gate_fails_where_clopper_and_pearsons_bound_exceeds_the_margin(n):
    for lost in range(n + 1):
        # One-sided: the lower end alone, at 95 %, is that of a two-sided 90 %.
        bound = binomtest(lost, n).proportion_ci(confidence_level=0.9, method="exact").low
        assert (binomial_tail(lost, n, 0.02) < 0.05) == (bound > 0.02)


@pytest.mark.parametrize("changed", [1, 2, 9, 30, 501, 4000])
def test_mcnemar_is_scipys_exact_test(changed):
    for lost in {0, 1, changed // 3, changed // 2, changed}:
        expected = binomtest(min(lost, changed - lost), changed, 0.5).pvalue
        assert mcnemar_exact(lost, changed - lost) == pytest.approx(expected, rel=1e-9)


def quantile_error(spread, num_resamples=2000):
    """Six standard errors of the difference of two independent bootstraps' 2.5 % quantiles.

    The error of one quantile q is sqrt(q (1 - q) / resamples) / density; the resampled mean is nearly normal,
    so that its density at the 2.5 % point is 0.0584 / spread, with `spread` the standard error of the mean.
    """
    one = math.sqrt(0.025 * 0.975 / num_resamples) / 0.0584 * spread
    return 6 * math.sqrt(2) * one


def scipys_bootstrap(data, statistic, **options):
    found = bootstrap(
        data, statistic, n_resamples=2000, method="percentile", rng=np.random.default_rng(5), **options
    )
    return found.confidence_interval, found.standard_error


@pytest.mark.parametrize("n", [30, 400])
def test_the_bootstrap_of_a_mean_is_scipys(n):
    values = np.random.default_rng(n).exponential(1.0, n)
    (low, high), spread = scipys_bootstrap((values,), np.mean)
    found = bootstrap_interval(values.tolist(), seed=0)
    assert found == pytest.approx((low, high), abs=quantile_error(spread))
    # The allowance is a small part of the interval, or the comparison would say nothing.
    assert quantile_error(spread) < (high - low) / 4


def test_the_bootstrap_of_clusters_is_scipys():
    draws = np.random.default_rng(2)
    counts = draws.integers(1, 6, 150)
    samples = [
        Sample("m", f"{cluster}/{number}", str(cluster), "p", (), "t", float(value))
        for cluster, count in enumerate(counts)
        for number, value in enumerate(draws.normal(cluster % 7, 1, count))
    ]
    sums = np.bincount([int(one.cluster) for one in samples], weights=[one.value for one in samples])

    def ratio(first, second, axis=-1):
        return first.sum(axis) / second.sum(axis)

    (low, high), spread = scipys_bootstrap((sums, counts), ratio, paired=True)
    found = mean_metric("m", samples, "how")
    assert (found.low, found.high) == pytest.approx((low, high), abs=quantile_error(spread))
    # The same items moved by 0 to 2: the difference is paired, so its interval is that of the moves.
    moved = [replace(one, value=one.value + 2 * draws.random()) for one in samples]
    moves = np.bincount(
        [int(one.cluster) for one in samples],
        weights=[now.value - was.value for was, now in zip(samples, moved, strict=True)],
    )
    (low, high), spread = scipys_bootstrap((moves, counts), ratio, paired=True)
    change = difference_metric("m", samples, moved, "how")
    assert (change.low, change.high) == pytest.approx((low, high), abs=quantile_error(spread))


def test_the_bootstrap_of_a_perplexity_ratio_is_scipys():
    draws = np.random.default_rng(3)
    counts = draws.integers(20, 200, 120)
    before = counts * draws.normal(3.0, 0.5, 120)
    after = before + counts * draws.normal(0.01, 0.05, 120)

    def log_ratio(was, now, tokens, axis=-1):
        return (now.sum(axis) - was.sum(axis)) / tokens.sum(axis)

    (low, high), spread = scipys_bootstrap((before, after, counts), log_ratio, paired=True)
    _, *ends = paired_bootstrap_ratio(before.tolist(), after.tolist(), counts.tolist(), seed=0)
    assert [math.log(end) for end in ends] == pytest.approx([low, high], abs=quantile_error(spread))
