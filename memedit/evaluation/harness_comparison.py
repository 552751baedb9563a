"""Two runs of lm-evaluation-harness side by side: base against edited, question by question.

What: `compare_harness`, `HarnessDifference`, and `harness_stderr` of one run.
Why: two standard errors side by side hide a real difference: both models answer the same questions, so the
error of their difference is much smaller than that of either.
How: the harness gives each question a number, or a number with a weight, and makes one number of them: their
mean (accuracy, exact match), exp(-mean) (perplexity), or -mean / ln 2 (bits per byte). Which of them it is
is found by trying. The error of a mean is a closed form, that of the others a bootstrap; questions are paired
in both. A metric that none of them gives (BLEU, say) is compared without an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedit.evaluation.statistics import Metric, widened_interval

__all__ = ["HarnessDifference", "compare_harness", "harness_stderr"]

_RESAMPLES = 2000
_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class HarnessDifference:
    """One of the harness's metrics on two models.

    Args:
        task: The task.
        metric: The metric, with its filter where the task has several: "exact_match,strict-match".
        before: The first model's value.
        before_stderr: Its standard error; NaN where the metric has none.
        after: The second model's value.
        after_stderr: Its standard error.
        difference: after - before with its 95 % interval (NaN where the metric has no error), paired by
            question.
        stderr: Standard error of the difference.
        higher_is_better: As the task says; None where it does not.
    """

    task: str
    metric: str
    before: float
    before_stderr: float
    after: float
    after_stderr: float
    difference: Metric
    stderr: float
    higher_is_better: bool | None

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values; a number that is not finite becomes None."""
        plain = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }
        return {**plain, "difference": self.difference.to_json()}


@dataclass(frozen=True)
class _Aggregate:
    """How one number is made of the questions' numbers."""

    of_mean: Callable[[_Numbers], _Numbers]
    how: str


_AGGREGATES = (
    _Aggregate(lambda mean: mean, "mean over questions"),
    _Aggregate(lambda mean: np.exp(-mean), "exp(-mean)"),
    _Aggregate(lambda mean: -mean / math.log(2), "-mean / ln 2"),
)


def harness_stderr(
    value: float, samples: Sequence[Mapping[str, Any]], metric: str, *, seed: int = 0
) -> float:
    """Return the standard error of one of the harness's metrics.

    Args:
        value: The metric.
        samples: The task's questions, as `harness_tasks` returns them.
        metric: Its name.
        seed: Of the bootstrap.
    Returns:
        For a mean the sample standard deviation / sqrt(n), as the harness has it; else a bootstrap's standard
        deviation; NaN where the questions' numbers do not make the value, or there is but one.
    """
    numbers, weights = _numbers(samples, metric)
    aggregate = _aggregate(value, numbers, weights)
    if aggregate is None or len(numbers) < 2:
        return math.nan
    if aggregate is _AGGREGATES[0] and (weights == 1).all():
        return float(numbers.std(ddof=1) / math.sqrt(len(numbers)))
    picks = _picks(len(numbers), seed)
    return float(_resampled(aggregate, numbers, weights, picks).std(ddof=1))


def compare_harness(
    before: Mapping[str, Any], after: Mapping[str, Any], *, seed: int = 0
) -> list[HarnessDifference]:
    """Compare what two models reached in the same tasks.

    Args:
        before: The first model's run, from `harness_tasks`.
        after: The second model's, with the same tasks, limit and seed.
        seed: Of the resampling.
    Returns:
        Every metric of every task, in the order of the first run.
    Raises:
        ValueError: The runs are not of the same tasks, limit, seed and questions.
    """
    for key in ("limit", "seed"):
        if before[key] != after[key]:
            raise ValueError(f"both runs need the same {key}, got {before[key]} and {after[key]}")
    items = [{name: _items(task) for name, task in run["tasks"].items()} for run in (before, after)]
    if items[0] != items[1]:
        unlike = sorted(name for name in {*items[0], *items[1]} if items[0].get(name) != items[1].get(name))
        raise ValueError(f"both runs need the same questions, they differ in {', '.join(unlike)}")
    return [
        _difference(name, metric, task, after["tasks"][name], str(after["protocol"]), seed)
        for name, task in before["tasks"].items()
        for metric in task["metrics"]
    ]


def _difference(
    task: str, metric: str, before: Mapping[str, Any], after: Mapping[str, Any], protocol: str, seed: int
) -> HarnessDifference:
    values = [_value(run["metrics"][metric]["value"]) for run in (before, after)]
    errors = [_value(run["metrics"][metric]["stderr"]) for run in (before, after)]
    gap, low, high, stderr, how = _paired(values, [run["samples"] for run in (before, after)], metric, seed)
    difference = Metric(
        f"{task}/{metric}", gap, int(after["n"]), low, high, f"{protocol}; edited minus base, {how}"
    )
    better = after["metrics"][metric]["higher_is_better"]
    return HarnessDifference(
        task, metric, values[0], errors[0], values[1], errors[1], difference, stderr, better
    )


def _paired(
    values: Sequence[float], runs: Sequence[Sequence[Mapping[str, Any]]], metric: str, seed: int
) -> tuple[float, float, float, float, str]:
    """Return difference, its interval, its standard error, and how they were made."""
    gap = values[1] - values[0]
    read = [_numbers(samples, metric) for samples in runs]
    made = [_aggregate(value, *numbers) for value, numbers in zip(values, read, strict=True)]
    size = len(read[0][0])
    if made[0] is None or made[0] is not made[1] or len(read[1][0]) != size or size < 2:
        return gap, math.nan, math.nan, math.nan, "no interval: the task has no number for each question"
    aggregate, picks = made[0], _picks(size, seed)
    first, second = (_resampled(aggregate, *numbers, picks) for numbers in read)
    gaps = second - first
    low, high = (float(end) for end in np.percentile(gaps, (2.5, 97.5)))
    if aggregate is _AGGREGATES[0] and all(((sums >= 0) & (sums <= sizes)).all() for sums, sizes in read):
        low, high = widened_interval((low, high), gap, size, (-1.0, 1.0))
    stderr = float(gaps.std(ddof=1))
    if aggregate is _AGGREGATES[0] and all((weights == 1).all() for _, weights in read):
        stderr = float((read[1][0] - read[0][0]).std(ddof=1) / math.sqrt(size))
    how = f"{aggregate.how}, paired bootstrap over {size} questions"
    return gap, low, high, stderr, how


def _items(task: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sample["item"] for sample in task["samples"])


def _numbers(samples: Sequence[Mapping[str, Any]], metric: str) -> tuple[_Numbers, _Numbers]:
    """The questions' numbers and weights; a number alone has the weight 1."""
    found = [sample[metric] for sample in samples if metric in sample]
    pairs = [value if isinstance(value, list) else [value, 1.0] for value in found]
    both = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _aggregate(value: float, numbers: _Numbers, weights: _Numbers) -> _Aggregate | None:
    """Find what makes the value of the questions' numbers."""
    total = weights.sum()
    if not total > 0:
        return None
    mean = numbers.sum() / total
    return next(
        (
            aggregate
            for aggregate in _AGGREGATES
            if math.isclose(float(aggregate.of_mean(mean)), value, rel_tol=1e-6, abs_tol=1e-9)
        ),
        None,
    )


def _resampled(
    aggregate: _Aggregate, numbers: _Numbers, weights: _Numbers, picks: NDArray[np.int64]
) -> _Numbers:
    return aggregate.of_mean(numbers[picks].sum(1) / weights[picks].sum(1))


def _picks(size: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, size, size=(_RESAMPLES, size))


def _value(number: float | None) -> float:
    return math.nan if number is None else float(number)
