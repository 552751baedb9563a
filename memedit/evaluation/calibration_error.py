"""Calibration: whether a model that is 80 % sure is right 80 % of the time.

What: `expected_calibration_error`, `calibration_bins`, `calibration`.
Why: after an edit, what is wrong should not be said with the confidence of what is right; a threshold on
confidence, as for abstaining, is only worth what the calibration is.
How: confidences in [0, 1] fall into `num_bins` bins of equal width, bin m holding ((m - 1) / M, m / M], the
first one 0 as well. ECE = sum over bins of n_m / n * |accuracy_m - confidence_m|, with the means of the bin.
Empty bins count nothing. ECE is biased upwards in small samples: compare it at equal n.

Source: Guo et al. (2017), On Calibration of Modern Neural Networks, section 2 (15 bins); Naeini, Cooper and
Hauskrecht (2015), Obtaining Well Calibrated Probabilities Using Bayesian Binning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.samples import Evaluation, Sample
from memedit.evaluation.statistics import Metric, widened_interval

__all__ = [
    "METRICS",
    "NUM_BINS",
    "CalibrationBin",
    "calibration",
    "calibration_bins",
    "expected_calibration_error",
]

NUM_BINS = 15
_ECE, _OVER = "expected_calibration_error", "overconfidence"
_RESAMPLES = 2000
_CONFIDENCE = "confidence = probability of the first generated token, against exact match of the answer"
_SOURCE = "Guo et al. 2017, On Calibration of Modern Neural Networks, section 2"

METRICS = (
    MetricInfo(
        _ECE,
        "hallucination",
        "sum over bins of n_m / n * |share right - mean confidence|, bins ((m - 1) / M, m / M]",
        _SOURCE,
        f"{_CONFIDENCE}; {NUM_BINS} bins of equal width",
        higher_is_better=False,
    ),
    MetricInfo(
        _OVER,
        "hallucination",
        "mean confidence - share right; above 0: more sure than right",
        _SOURCE,
        _CONFIDENCE,
        higher_is_better=None,
    ),
)
"""The catalogue's entries."""


@dataclass(frozen=True)
class CalibrationBin:
    """The answers whose confidence lies in (low, high].

    Args:
        low: Lower end, left out but for 0.
        high: Upper end, taken in.
        n: Answers.
        confidence: Their mean confidence; NaN without answers.
        accuracy: Share of them that is right; NaN without answers.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        """Return the bin as JSON values, None for NaN."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def expected_calibration_error(
    confidences: Sequence[float], right: Sequence[float], *, num_bins: int = NUM_BINS
) -> float:
    """Return the expected calibration error.

    Args:
        confidences: One per answer, in [0, 1].
        right: 1 for a right answer, 0 for a wrong one.
        num_bins: Bins of equal width, at least 1.
    Returns:
        The error in [0, 1]; NaN without answers.
    Raises:
        ValueError: a confidence is outside [0, 1], the two differ in length, or num_bins is below 1.
    """
    bins = calibration_bins(confidences, right, num_bins=num_bins)
    if not len(confidences):
        return math.nan
    return math.fsum(one.n * abs(one.accuracy - one.confidence) for one in bins if one.n) / len(confidences)


def calibration_bins(
    confidences: Sequence[float], right: Sequence[float], *, num_bins: int = NUM_BINS
) -> list[CalibrationBin]:
    """Return the bins of a reliability diagram; arguments and errors are those of the error above."""
    bins = _bins_of(confidences, num_bins)
    if len(right) != len(confidences):
        raise ValueError(f"right must have one entry per confidence, got {len(right)} for {len(confidences)}")
    sums = [np.bincount(bins, weights=kept, minlength=num_bins) for kept in (np.asarray(confidences), right)]
    counts = np.bincount(bins, minlength=num_bins)
    return [
        CalibrationBin(
            place / num_bins,
            (place + 1) / num_bins,
            int(n),
            float(sums[0][place] / n) if n else math.nan,
            float(sums[1][place] / n) if n else math.nan,
        )
        for place, n in enumerate(counts)
    ]


def calibration(samples: Iterable[Sample], *, num_bins: int = NUM_BINS, seed: int = 0) -> Evaluation:
    """Measure the calibration of answers that were judged already.

    Args:
        samples: Samples of one metric whose value is 1 where the answer is right and else 0, with their
            confidence in the details, such as those of learned_exact_match.
        num_bins: Bins of equal width.
        seed: Seed of the intervals, which resample clusters.
    Returns:
        expected_calibration_error and overconfidence; n counts answers. Samples without a confidence, or
        with NaN, are left out, with a note.
    Raises:
        ValueError: a confidence is outside [0, 1], or num_bins is below 1.
    """
    given = list(samples)
    kept = [sample for sample in given if math.isfinite(_confidence(sample))]
    confidences = np.array([_confidence(sample) for sample in kept])
    right = np.array([sample.value for sample in kept])
    how = {info.name: info.protocol for info in METRICS}
    how[_ECE] = f"{_CONFIDENCE}; {num_bins} bins of equal width (low, high], bootstrap over clusters"
    notes = (f"{len(given) - len(kept)} answers have no confidence",) if len(kept) < len(given) else ()
    sums = _cluster_sums([sample.cluster for sample in kept], confidences, right, num_bins)
    if not kept:
        empty = tuple(Metric(name, math.nan, 0, math.nan, math.nan, how[name]) for name in (_ECE, _OVER))
        return Evaluation(empty, notes=notes)
    draws = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), _RESAMPLES)
    resampled = _errors(np.tensordot(draws, sums, axes=1))
    values = _errors(sums.sum(axis=0)[None])
    metrics = []
    for name, value, drawn in zip((_ECE, _OVER), values, resampled, strict=True):
        low, high = (float(end) for end in np.percentile(drawn, (2.5, 97.5)))
        bounds = (0.0 if name == _ECE else -1.0, 1.0)
        ends = widened_interval((low, high), float(value[0]), len(sums), bounds)
        metrics.append(Metric(name, float(value[0]), len(kept), *ends, how[name]))
    return Evaluation(tuple(metrics), tuple(kept), notes)


def _bins_of(confidences: Sequence[float] | NDArray[np.float64], num_bins: int) -> NDArray[np.int64]:
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    values = np.asarray(confidences, dtype=np.float64)
    outside = ~((values >= 0) & (values <= 1))
    if outside.any():
        raise ValueError(f"confidences must lie between 0 and 1, got {float(values[outside][0])}")
    edges = np.arange(1, num_bins) / num_bins
    return np.searchsorted(edges, values, side="left")


def _cluster_sums(
    clusters: Sequence[str], confidences: NDArray[np.float64], right: NDArray[np.float64], num_bins: int
) -> NDArray[np.float64]:
    """For each cluster and bin: answers, sum of confidences, right answers; [clusters, bins, 3]."""
    order = {cluster: place for place, cluster in enumerate(dict.fromkeys(clusters))}
    rows = np.array([order[cluster] for cluster in clusters], dtype=np.int64)
    cells = rows * num_bins + _bins_of(confidences, num_bins)
    sums = [
        np.bincount(cells, weights=figure, minlength=len(order) * num_bins)
        for figure in (np.ones(len(rows)), confidences, right)
    ]
    return np.stack(sums, axis=-1, dtype=np.float64).reshape(len(order), num_bins, 3)


def _confidence(sample: Sample) -> float:
    confidence = sample.details.get("confidence")
    return math.nan if confidence is None else float(confidence)


def _errors(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ECE and overconfidence of each [bins, 3] of sums."""
    n = sums[..., 0].sum(axis=-1)
    # n_m * |accuracy_m - confidence_m| needs no division by n_m.
    gaps = sums[..., 1] - sums[..., 2]
    return np.abs(gaps).sum(axis=-1) / n, gaps.sum(axis=-1) / n
