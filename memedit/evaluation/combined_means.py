"""Figures made of several means, such as a harmonic mean, with an interval that resamples facts.

What: `harmonic_mean`, `combined_metric`, `combined_difference`.
Why: means over the same facts are not independent, so their intervals cannot simply be put together.
How: the facts are drawn with replacement, the same ones for every mean (and for both models of a
difference), and the figure is computed anew; its 2.5 and 97.5 percentiles are the ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from memedit.evaluation.samples import Sample, mean_metric
from memedit.evaluation.statistics import Metric, widened_interval

__all__ = ["combined_difference", "combined_metric", "harmonic_mean"]

_RESAMPLES = 2000

Combine = Callable[[Sequence[float]], float]


def harmonic_mean(values: Sequence[float]) -> float:
    """Return n / sum(1 / value): 0 when a value is 0, NaN without values.

    Args:
        values: Numbers of at least 0.
    """
    if not values:
        return math.nan
    return 0.0 if min(values) == 0 else len(values) / math.fsum(1 / value for value in values)


def combined_metric(
    name: str, groups: Sequence[Sequence[Sample]], combine: Combine, protocol: str, *, seed: int = 0
) -> Metric:
    """Return a figure made of the means of several groups of samples.

    Args:
        name: Name of the metric.
        groups: The samples of each mean, in the order in which `combine` takes the means; none is empty.
        combine: Makes the figure of the means; a larger mean must never give a smaller figure.
        protocol: How it was measured.
        seed: Seed of the resampling.
    Returns:
        The figure; n counts the facts (clusters) that any group holds. Where resampling has no spread, the
        interval is that of `combine` on the ends of the means' own intervals: wider, on the safe side.
    Raises:
        ValueError: a group is empty.
    """
    table = _table(groups)
    value = combine([_mean(group) for group in groups])
    figures = _resampled(table, combine, seed)
    low, high = (float(end) for end in np.nanpercentile(figures, (2.5, 97.5)))
    if math.isclose(low, high, abs_tol=1e-12):
        means = [mean_metric(name, group, protocol, seed=seed) for group in groups]
        low, high = combine([mean.low for mean in means]), combine([mean.high for mean in means])
    return Metric(name, value, table.shape[1], low, high, protocol)


def combined_difference(
    name: str,
    before: Sequence[Sequence[Sample]],
    after: Sequence[Sequence[Sample]],
    combine: Combine,
    protocol: str,
    *,
    seed: int = 0,
) -> Metric:
    """Return the figure of the second model minus that of the first, resampling the facts in pairs.

    Args:
        name: Name of the metric.
        before: The first model's groups of samples.
        after: The second model's, of the same items.
        combine: Makes the figure of the means.
        protocol: How both were measured.
        seed: Seed of the resampling.
    Returns:
        The difference; n counts the facts. Where resampling has no spread and all values lie in [0, 1], the
        interval is that of `widened_interval` within [-1, 1].
    Raises:
        ValueError: a group is empty, or the two models' groups do not hold the same items.
    """
    items = [[{sample.item for sample in group} for group in side] for side in (before, after)]
    if items[0] != items[1]:
        raise ValueError("before and after must hold the same items in each group")
    first, second = _table(before), _table(after)
    value = combine([_mean(group) for group in after]) - combine([_mean(group) for group in before])
    change = _resampled(second, combine, seed) - _resampled(first, combine, seed)
    low, high = (float(end) for end in np.nanpercentile(change, (2.5, 97.5)))
    num_facts = first.shape[1]
    if all(0 <= sample.value <= 1 for group in (*before, *after) for sample in group):
        low, high = widened_interval((low, high), value, num_facts, (-1.0, 1.0))
    how = f"{protocol}; edited minus base, paired bootstrap over {num_facts} clusters"
    return Metric(name, value, num_facts, low, high, how)


def _mean(group: Sequence[Sample]) -> float:
    return math.fsum(sample.value for sample in group) / len(group)


def _table(groups: Sequence[Sequence[Sample]]) -> NDArray[np.float64]:
    """Sum and number of values of each group and cluster: [groups, clusters, 2], clusters by name."""
    if not groups or not all(groups):
        raise ValueError(f"every group must hold samples, got sizes {[len(group) for group in groups]}")
    # By name, so that both models of a difference have the same order.
    names = sorted({sample.cluster for group in groups for sample in group})
    places = {name: place for place, name in enumerate(names)}
    table = np.zeros((len(groups), len(names), 2))
    for row, group in enumerate(groups):
        for sample in group:
            table[row, places[sample.cluster]] += (sample.value, 1)
    return table


def _resampled(table: NDArray[np.float64], combine: Combine, seed: int) -> NDArray[np.float64]:
    """The figure of each resample; NaN where a resample leaves a group without samples."""
    num_clusters = table.shape[1]
    generator = np.random.default_rng(seed)
    figures = np.full(_RESAMPLES, np.nan)
    for index in range(_RESAMPLES):
        sums = table[:, generator.integers(0, num_clusters, size=num_clusters)].sum(axis=1)
        if sums[:, 1].all():
            figures[index] = combine((sums[:, 0] / sums[:, 1]).tolist())
    return figures
