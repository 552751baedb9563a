"""Abstention: from scores of answers and verdicts to the score below which a model should say nothing.

What: `calibrate_abstention`, `AbstentionThreshold`, `Judged`, `DONT_KNOW`.
Why: a small model is wrong more often than right; whoever uses its answers wants those of which nine in ten
are right, and wants to know how many are left.
How: half of the items, by a hash of their names, chooses the threshold: the lowest score at which the
precision of what is answered, estimated by Laplace's rule of succession, reaches the target. The other half
says what that threshold is worth. Pure: no model is asked here.

Source: El-Yaniv and Wiener 2010, On the Foundations of Noise-free Selective Classification, section 2
(coverage, and risk = 1 - precision).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.statistics import Metric, share_metric

__all__ = [
    "DONT_KNOW",
    "METRICS",
    "AbstentionThreshold",
    "Judged",
    "abstention_metrics",
    "calibrate_abstention",
    "in_test_half",
]

DONT_KNOW = "I don't know"
"""What is answered in place of an answer that nothing supports."""

_PRECISION, _COVERAGE, _KEPT = "abstention_precision", "abstention_coverage", "abstention_right_kept"
_SOURCE = "El-Yaniv and Wiener 2010, section 2"
_GENERATED = "greedy generation, natural stop"
_PROTOCOL = f"{_GENERATED}, right = match at the start; answered where the score is high enough"

METRICS = (
    MetricInfo(
        _PRECISION, "abstention", "right answered / answered", _SOURCE, _PROTOCOL, higher_is_better=True
    ),
    MetricInfo(_COVERAGE, "abstention", "answered / asked", _SOURCE, _PROTOCOL, higher_is_better=None),
    MetricInfo(_KEPT, "abstention", "right answered / right", "memedit", _PROTOCOL, higher_is_better=True),
    MetricInfo(
        "abstention_memory_precision",
        "abstention",
        "right answered / answered, of what stored facts supported",
        "memedit",
        f"{_GENERATED}; learned facts, in a held-out wording if they have one, and as many look-alikes",
        higher_is_better=True,
    ),
    MetricInfo(
        "abstention_other_relation",
        "abstention",
        "answered with the stored fact / asked for another relation of a learned fact's subject",
        "memedit",
        f"{_GENERATED}; prompts of other relations behind the subjects of learned facts",
        higher_is_better=False,
    ),
)
"""The catalogue's entries; the last two need a store and are measured by memedit.editor."""


@dataclass(frozen=True)
class Judged:
    """An answer with its score and its verdict.

    Args:
        item: Stable name of the item; its hash decides in which half it falls.
        score: How well the answer is supported: more is better; -inf for one that is never given.
        right: Whether the answer is right; False for what has no right answer.
    """

    item: str
    score: float
    right: bool


@dataclass(frozen=True)
class AbstentionThreshold:
    """From which score a model should answer, and what that is worth on items that did not choose it.

    Args:
        threshold: Answer where the score is at least this; inf where nothing should be answered.
        target_precision: What was asked for.
        reached: Whether the choosing half has a threshold with that precision; else the best was taken.
        precision: Of the answers given on the test half; NaN where none is.
        coverage: Share of the test half that is answered.
        right_kept: Share of its right answers that are given.
    """

    threshold: float
    target_precision: float
    reached: bool
    precision: Metric
    coverage: Metric
    right_kept: Metric

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; an infinite threshold is None."""
        return {
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
            "target_precision": self.target_precision,
            "reached": self.reached,
            "precision": self.precision.to_json(),
            "coverage": self.coverage.to_json(),
            "right_kept": self.right_kept.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AbstentionThreshold:
        """Read back what `to_json` returned.

        Raises:
            ValueError: It is damaged.
        """
        try:
            threshold = math.inf if data["threshold"] is None else float(data["threshold"])
            metrics = [Metric.from_json(data[name]) for name in ("precision", "coverage", "right_kept")]
            return cls(threshold, float(data["target_precision"]), bool(data["reached"]), *metrics)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"cached threshold is damaged: {error!r}") from error


def in_test_half(item: str) -> bool:
    """Say whether an item is among those that judge a threshold, not among those that choose it.

    Args:
        item: Its name.
    Returns:
        One bit of the SHA-256 of the name: the same on every machine.
    """
    return bool(hashlib.sha256(item.encode("utf-8")).digest()[0] & 1)


def calibrate_abstention(
    judged: Iterable[Judged], *, target_precision: float = 0.9, asked: str = "items"
) -> AbstentionThreshold:
    """Choose the score from which a model should answer.

    Args:
        judged: Answers with scores and verdicts, in the mix in which questions are expected: precision
            depends on it.
        target_precision: Share of right answers wanted among those that are given, in (0, 1).
        asked: What the items are, for the protocol.
    Returns:
        The lowest threshold whose answers on the choosing half reach the target by Laplace's rule,
        (right + 1) / (answered + 2); where none does, the one that comes nearest. For 0.9 that takes eight
        right answers at least.
    Raises:
        ValueError: target_precision is out of range.
    """
    if not 0 < target_precision < 1:
        raise ValueError(f"target_precision must lie between 0 and 1, got {target_precision}")
    items = list(judged)
    choosing = [item for item in items if not in_test_half(item.item)]
    threshold, reached = _lowest_threshold(choosing, target_precision)
    testing = [item for item in items if in_test_half(item.item)]
    how = f"{asked}, greedy generation, natural stop, match at the start of the answer, held-out half by hash"
    metrics = abstention_metrics(testing, [item.score >= threshold for item in testing], how)
    return AbstentionThreshold(threshold, target_precision, reached, *metrics)


def abstention_metrics(
    judged: Sequence[Judged], answered: Sequence[bool], protocol: str
) -> tuple[Metric, Metric, Metric]:
    """Return precision, coverage and the share of right answers kept, each with its Wilson interval.

    Args:
        judged: Answers with their verdicts.
        answered: Whether each of them is given.
        protocol: How they were measured.
    Raises:
        ValueError: The two differ in length.
    """
    given = [item for item, is_given in zip(judged, answered, strict=True) if is_given]
    num_right, num_given_right = (sum(item.right for item in items) for items in (judged, given))
    return (
        share_metric(_PRECISION, num_given_right, len(given), f"right / answered; {protocol}"),
        share_metric(_COVERAGE, len(given), len(judged), f"answered / asked; {protocol}"),
        share_metric(_KEPT, num_given_right, num_right, f"right answered / right; {protocol}"),
    )


def _lowest_threshold(judged: Sequence[Judged], target: float) -> tuple[float, bool]:
    """Return the threshold and whether it reaches the target."""
    ordered = sorted((item for item in judged if item.score > -math.inf), key=lambda item: -item.score)
    best, best_precision, lowest = math.inf, 0.0, math.inf
    num_right = 0
    for number, item in enumerate(ordered, start=1):
        num_right += item.right
        if number < len(ordered) and ordered[number].score == item.score:
            # Equal scores are answered together.
            continue
        precision = (num_right + 1) / (number + 2)
        if precision >= target:
            lowest = item.score
        if num_right and precision >= best_precision:
            best, best_precision = item.score, precision
    return (lowest, True) if lowest < math.inf else (best, False)
