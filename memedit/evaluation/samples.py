"""Samples: what was asked, what was expected and what came, one by one; every metric rests on them.

What: `Sample`, `Evaluation`, `mean_metric`, `difference_metric`, `joined`.
Why: a number that a user doubts must lead back to the texts behind it; and two models are compared item by
item, so that the interval of a difference is as narrow as the data allow.
How: a metric family returns an `Evaluation`. Metrics are means over samples with a bootstrap interval that
resamples clusters (facts, not wordings); differences resample pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from memedit.evaluation.statistics import Metric, bootstrap_interval, share_metric

__all__ = ["Evaluation", "Sample", "difference_metric", "joined", "mean_metric"]


@dataclass(frozen=True)
class Sample:
    """One item that was measured.

    Args:
        metric: Name of the metric that it counts for.
        item: Stable name of the item: the same in every model that is measured.
        cluster: Items that stand or fall together (wordings of one fact) share it.
        prompt: What was asked.
        expected: Answers that count as right; empty where none does.
        text: What the model answered, or a description of what was scored.
        value: What the metric averages: 1 or 0 for right and wrong, else a number.
        details: Further figures, such as {"confidence": 0.9}.
    """

    metric: str
    item: str
    cluster: str
    prompt: str
    expected: tuple[str, ...]
    text: str
    value: float
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the sample as JSON values."""
        return {**asdict(self), "expected": list(self.expected), "details": dict(self.details)}


@dataclass(frozen=True)
class Evaluation:
    """What one metric family found.

    Args:
        metrics: The numbers.
        samples: The items that they rest on.
        notes: What could not be measured, and why, one sentence each.
    """

    metrics: tuple[Metric, ...]
    samples: tuple[Sample, ...] = ()
    notes: tuple[str, ...] = ()

    def metric(self, name: str) -> Metric:
        """Return the metric of that name.

        Raises:
            KeyError: there is none.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)


def joined(parts: Iterable[Evaluation]) -> Evaluation:
    """Return one evaluation with everything that several hold."""
    kept = list(parts)
    return Evaluation(
        tuple(metric for part in kept for metric in part.metrics),
        tuple(sample for part in kept for sample in part.samples),
        tuple(note for part in kept for note in part.notes),
    )


def mean_metric(
    name: str, samples: Iterable[Sample], protocol: str, *, seed: int = 0, bounded: bool | None = None
) -> Metric:
    """Return the mean of samples with its 95 % bootstrap interval over clusters.

    Args:
        name: Name of the metric.
        samples: What it averages; all of them, whatever metric they name.
        protocol: How it was measured, in one line.
        seed: Seed of the resampling.
        bounded: Whether values can only lie in [0, 1]; None = as these values say.
    Returns:
        The mean; n counts samples. NaN without samples. Bounded values of 0 and 1 alone have Wilson's
        interval, others that of `bootstrap_interval`: never without width where they are bounded, and NaN for
        a single cluster where they are not.
    """
    kept = list(samples)
    values = [sample.value for sample in kept]
    if not values:
        return Metric(name, math.nan, 0, math.nan, math.nan, protocol)
    sums, counts = _clusters([(sample.cluster, sample.value) for sample in kept])
    value = math.fsum(values) / len(values)
    bounds = (0.0, 1.0) if _lie_in_unit(values, bounded) else None
    if bounds and set(values) <= {0.0, 1.0}:
        return share_metric(name, round(math.fsum(values)), len(values), protocol, num_clusters=len(counts))
    ends = bootstrap_interval(sums, seed, counts=counts, bounds=bounds)
    return Metric(name, value, len(values), *ends, protocol)


def difference_metric(
    name: str,
    before: Sequence[Sample],
    after: Sequence[Sample],
    protocol: str,
    *,
    seed: int = 0,
    bounded: bool | None = None,
) -> Metric:
    """Return mean(after) - mean(before) over the same items, with a paired bootstrap interval over clusters.

    Args:
        name: Name of the metric.
        before: The first model's samples.
        after: The second model's, of the same items in any order.
        protocol: How both were measured.
        seed: Seed of the resampling.
        bounded: Whether values can only lie in [0, 1]; None = as those of both models say.
    Returns:
        The difference; n counts items. Where nothing varies, as where nothing changed, the interval of
        bounded values has a width all the same (`widened_interval` within [-1, 1]); that of a single cluster
        of others is NaN.
    Raises:
        ValueError: the two do not hold the same items.
    """
    again = {sample.item: sample for sample in after}
    if len(again) != len(after) or set(again) != {sample.item for sample in before}:
        raise ValueError(
            f"before and after must hold the same items, got {len(before)} and {len(after)} samples with "
            f"{len(set(again) ^ {sample.item for sample in before})} that are in one only"
        )
    if not before:
        return Metric(name, math.nan, 0, math.nan, math.nan, protocol)
    pairs = [(sample.cluster, again[sample.item].value - sample.value) for sample in before]
    sums, counts = _clusters(pairs)
    values = [sample.value for sample in (*before, *after)]
    bounds = (-1.0, 1.0) if _lie_in_unit(values, bounded) else None
    ends = bootstrap_interval(sums, seed, counts=counts, bounds=bounds)
    value = math.fsum(difference for _, difference in pairs) / len(pairs)
    how = f"{protocol}; edited minus base, paired bootstrap over {len(counts)} clusters"
    return Metric(name, value, len(pairs), *ends, how)


def _lie_in_unit(values: Iterable[float], bounded: bool | None) -> bool:
    return all(0 <= value <= 1 for value in values) if bounded is None else bounded


def _clusters(pairs: Sequence[tuple[str, float]]) -> tuple[list[float], list[int]]:
    """Sum and size of each cluster, in order of first appearance."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for cluster, value in pairs:
        sums[cluster] = sums.get(cluster, 0.0) + value
        counts[cluster] = counts.get(cluster, 0) + 1
    return list(sums.values()), list(counts.values())
