"""Numbers with their uncertainty: intervals, paired tests and the `Metric` that carries them.

What: `Metric`; Wilson and bootstrap intervals; a paired bootstrap of a perplexity ratio; exact binomial and
McNemar tests; AUROC with its interval.
Why: no number leaves memedit without its protocol, n and a 95 % interval, and a gate must not fail on noise.
How: closed forms, and numpy for resampling. Every resampling takes a seed and is
reproducible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Metric",
    "auroc",
    "auroc_metric",
    "binomial_tail",
    "bootstrap_interval",
    "mcnemar_exact",
    "paired_bootstrap_ratio",
    "share_metric",
    "widened_interval",
    "wilson_interval",
]

Z_95 = 1.959963984540054
"""The two-sided 95 % point of the normal distribution."""
# Equal items differ by rounding only, a few units of the last place of numbers around 1.
_NO_SPREAD = 1e-12


@dataclass(frozen=True)
class Metric:
    """One measured number.

    Args:
        name: What was measured, such as "retained".
        value: The number; NaN when nothing was measured (n = 0).
        n: How many items it rests on.
        low: Lower end of the 95 % interval; NaN where nothing is known of it.
        high: Upper end of the 95 % interval; NaN likewise.
        protocol: How it was measured, in one line.
    """

    name: str
    value: float
    n: int
    low: float
    high: float
    protocol: str

    def to_json(self) -> dict[str, Any]:
        """Return the metric as JSON values; a number that is not finite becomes None."""
        numbers = {"value": self.value, "n": self.n, "low": self.low, "high": self.high}
        finite = {key: number if math.isfinite(number) else None for key, number in numbers.items()}
        return {"name": self.name, **finite, "protocol": self.protocol}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Metric:
        """Read back what `to_json` returned; None becomes NaN.

        Raises:
            KeyError: a key is missing.
            TypeError: a value is of another kind, or ValueError.
        """
        value, low, high = (
            math.nan if data[name] is None else float(data[name]) for name in ("value", "low", "high")
        )
        return cls(str(data["name"]), value, int(data["n"]), low, high, str(data["protocol"]))


def wilson_interval(successes: float, n: int, *, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a share.

    Args:
        successes: How many of the items succeeded, in [0, n]; fractions are allowed.
        n: How many items there are.
        z: Normal quantile; the default gives 95 %.
    Returns:
        Lower and upper end in [0, 1]; (0, 1) when n is 0.
    Raises:
        ValueError: successes is not in [0, n].

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n, got successes={successes}, n={n}")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    # At the ends the formula gives 0 and 1 exactly; rounding must not leave them.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def share_metric(
    name: str, successes: int, n: int, protocol: str, *, num_clusters: int | None = None
) -> Metric:
    """Return a share with its Wilson interval.

    Args:
        name: What was measured.
        successes: How many of the n items succeeded.
        n: How many items there are.
        protocol: How it was measured.
        num_clusters: Number of independent units (such as facts, each asked in several wordings) when it is
            smaller than n. The interval is then that of the same share among so many units: wordings of one
            fact stand or fall together, so this is the safe side.
    Returns:
        The metric; value NaN and interval (0, 1) when n is 0.
    """
    if n == 0:
        return Metric(name, math.nan, 0, 0.0, 1.0, protocol)
    units = n if num_clusters is None else min(n, num_clusters)
    low, high = wilson_interval(min(float(units), successes / n * units), units)
    return Metric(name, successes / n, n, low, high, protocol)


def widened_interval(
    ends: tuple[float, float], value: float, n: int, bounds: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float]:
    """Return a bootstrap's interval of a bounded number, with a width where the bootstrap has no spread.

    Args:
        ends: The bootstrap's interval.
        value: The number.
        n: How many independent items it rests on, at least 1.
        bounds: Lowest and highest value that the number can have.
    Returns:
        `ends` where they lie apart or are NaN. Else, since all n items agree, as far from the value within
        the bounds as Wilson's interval of a share of n reaches from a share of 1: so many others may be
        otherwise.
    """
    if not ends[1] - ends[0] <= _NO_SPREAD:
        return ends
    reach = 1 - wilson_interval(n, n)[0]
    return max(bounds[0], value - reach), min(bounds[1], value + reach)


def bootstrap_interval(
    sums: Sequence[float],
    seed: int,
    *,
    counts: Sequence[float] | None = None,
    bounds: tuple[float, float] | None = None,
    num_resamples: int = 2000,
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean, which draws clusters.

    Args:
        sums: The sum of the values of each independent cluster.
        seed: Seed of the resampling.
        counts: How many values each cluster has; None = one each.
        bounds: Lowest and highest possible value, such as (0, 1) for a share and (-1, 1) for a difference of
            shares; None where there are none.
        num_resamples: How many resamples are drawn.
    Returns:
        Lower and upper end. Where the resamples have no spread, as with a single cluster, those of
        `widened_interval` for bounded values. One cluster of unbounded values says nothing of the others:
        (NaN, NaN), as without any.
    """
    if not len(sums) or (len(sums) < 2 and bounds is None):
        return math.nan, math.nan
    totals = np.asarray(sums, dtype=np.float64)
    sizes = np.ones_like(totals) if counts is None else np.asarray(counts, dtype=np.float64)
    picks = _resamples(len(totals), seed, num_resamples)
    ends = _percentiles(totals[picks].sum(axis=1) / sizes[picks].sum(axis=1))
    if bounds is None:
        return ends
    return widened_interval(ends, float(totals.sum() / sizes.sum()), len(totals), bounds)


def paired_bootstrap_ratio(
    before: Sequence[float],
    after: Sequence[float],
    counts: Sequence[int],
    seed: int,
    *,
    num_resamples: int = 2000,
) -> tuple[float, float, float]:
    """Return a perplexity ratio and its 95 % interval, resampling the chunks in pairs.

    Args:
        before: Summed negative log-likelihood of each chunk under the first model, in nats.
        after: The same chunks under the second model.
        counts: Predicted tokens of each chunk.
        seed: Seed of the resampling.
        num_resamples: How many resamples are drawn.
    Returns:
        exp((sum(after) - sum(before)) / sum(counts)), and its lower and upper end; all three NaN when a
        likelihood is not finite, as with a model that was broken outright. The ends are NaN for a single
        chunk, which says nothing of other ones.
    Raises:
        ValueError: the three sequences differ in length, or are empty.
    """
    if not len(before) == len(after) == len(counts) or not counts:
        raise ValueError(
            "before, after and counts must have one entry per chunk, got "
            f"{len(before)}, {len(after)} and {len(counts)} entries"
        )
    difference = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    tokens = np.asarray(counts, dtype=np.float64)
    if not np.isfinite(difference).all():
        return math.nan, math.nan, math.nan
    value = _exp(float(difference.sum() / tokens.sum()))
    if len(tokens) < 2:
        return value, math.nan, math.nan
    picks = _resamples(len(tokens), seed, num_resamples)
    low, high = _percentiles(difference[picks].sum(axis=1) / tokens[picks].sum(axis=1))
    return value, _exp(low), _exp(high)


def mcnemar_exact(lost: int, gained: int) -> float:
    """Return the two-sided p-value of the exact McNemar test.

    Args:
        lost: Items right before and wrong after.
        gained: Items wrong before and right after.
    Returns:
        Probability of a split at least this uneven when losing and gaining are equally likely; 1 for no
        change.
    Raises:
        ValueError: a count is negative.

    Source: McNemar (1947); exact version: binomial test of `lost` out of `lost + gained` at 1/2.
    """
    if lost < 0 or gained < 0:
        raise ValueError(f"lost and gained must not be negative, got {lost} and {gained}")
    changed = lost + gained
    # Binomial coefficients one from the other, as integers: exact, however large.
    ways = tail = 1
    for count in range(min(lost, gained)):
        ways = ways * (changed - count) // (count + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << changed))


def binomial_tail(successes: int, n: int, share: float) -> float:
    """Return P(X >= successes) for X binomial over n trials with the given share.

    Args:
        successes: Observed count, in [0, n].
        n: Number of trials.
        share: Probability of a success, in [0, 1].
    Returns:
        The one-sided p-value of `successes` or more.
    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 <= successes <= n or not 0 <= share <= 1:
        raise ValueError(f"expected 0 <= successes <= n and 0 <= share <= 1, got {successes}, {n}, {share}")
    if successes == 0:
        return 1.0
    if share in {0.0, 1.0}:
        return share
    logs = (_log_binomial(count, n, share) for count in range(successes, n + 1))
    return min(1.0, math.fsum(math.exp(log) for log in logs))


def auroc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Return the probability that a positive scores above a negative, ties counting one half.

    Args:
        positives: Scores of the positive items.
        negatives: Scores of the negative items.
    Returns:
        Area under the ROC curve in [0, 1]; NaN when one side is empty.
    """
    if not positives or not negatives:
        return math.nan
    below = np.sort(np.asarray(negatives, dtype=np.float64))
    scores = np.asarray(positives, dtype=np.float64)
    strictly = np.searchsorted(below, scores, side="left")
    at_most = np.searchsorted(below, scores, side="right")
    return float((strictly + at_most).sum()) / (2 * len(positives) * len(negatives))


def auroc_metric(
    name: str,
    positives: Sequence[tuple[str, float]],
    negatives: Sequence[tuple[str, float]],
    protocol: str,
    *,
    seed: int,
    num_resamples: int = 2000,
) -> Metric:
    """Return an AUROC with its 95 % interval: a bootstrap that draws the clusters of either side.

    Args:
        name: What was measured.
        positives: (cluster, score) of each positive item; items of one cluster are drawn together.
        negatives: The same of the negative items.
        protocol: How it was measured.
        seed: Seed of the resampling.
        num_resamples: How many resamples are drawn.
    Returns:
        The metric, n counting both sides; NaN when one side is empty. Where the two sides are wholly apart,
        or no resample differs, the bootstrap has no spread: the interval is then Wilson's, or that of
        `widened_interval`, for as many items as the smaller side has clusters.
    """
    n = len(positives) + len(negatives)
    above, below = ([score for _, score in side] for side in (positives, negatives))
    value = auroc(above, below)
    if math.isnan(value):
        return Metric(name, math.nan, n, math.nan, math.nan, protocol)
    first, sizes_first = _indicators([cluster for cluster, _ in positives])
    second, sizes_second = _indicators([cluster for cluster, _ in negatives])
    units = min(len(sizes_first), len(sizes_second))
    if value in {0.0, 1.0}:
        return Metric(name, value, n, *wilson_interval(value * units, units), protocol)
    wins = np.asarray(above)[:, None] - np.asarray(below)[None, :]
    by_cluster = first @ (np.sign(wins) / 2 + 0.5) @ second.T
    draws = np.random.default_rng(seed)
    times_first, times_second = (
        draws.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=num_resamples)
        for sizes in (sizes_first, sizes_second)
    )
    sums = ((times_first @ by_cluster) * times_second).sum(axis=1)
    ends = _percentiles(sums / ((times_first @ sizes_first) * (times_second @ sizes_second)))
    return Metric(name, value, n, *widened_interval(ends, value, units), protocol)


def _indicators(clusters: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Which item belongs to which cluster, [clusters, items], and how many belong to each."""
    order = {cluster: place for place, cluster in enumerate(dict.fromkeys(clusters))}
    matrix = np.zeros((len(order), len(clusters)))
    matrix[[order[cluster] for cluster in clusters], np.arange(len(clusters))] = 1
    return matrix, matrix.sum(axis=1)


def _log_binomial(count: int, n: int, share: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(count + 1) - math.lgamma(n - count + 1)
    return ways + count * math.log(share) + (n - count) * math.log1p(-share)


def _resamples(n: int, seed: int, num_resamples: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, n, size=(num_resamples, n))


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _exp(value: float) -> float:
    # A ratio beyond the range of a float is a result, not an overflow error.
    return math.exp(value) if value < 700 else math.inf
