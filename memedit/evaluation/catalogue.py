"""The catalogue: every metric's name, formula, source, protocol and direction, in one place.

What: `MetricInfo`, `all_metrics`, `metric_info`.
Why: a table's reader must find what a name means and whether more is better, and two families must not give
one name to two things.
How: each family's module declares its metrics in a constant `METRICS`; the catalogue imports the modules
named below when it is asked, so that naming a metric does not pay for all of them.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["FAMILY_MODULES", "MetricInfo", "all_metrics", "metric_info"]

FAMILY_MODULES: tuple[str, ...] = (
    "recall",
    "learned",
    "generalised",
    "counterfact",
    "locality",
    "lifelong",
    "edit_age",
    "last_written",
    "open_questions",
    "fluency",
    "retention",
    "assertions",
    "truthfulqa",
    "self_aware",
    "slick",
    "calibration_error",
    "memory_health",
    "abstention",
    "forgotten",
)
"""Modules of memedit.evaluation that declare metrics, in the order in which the catalogue lists them."""


@dataclass(frozen=True)
class MetricInfo:
    """What one metric is.

    Args:
        name: Its name, as in `Metric.name`.
        family: The family that measures it, such as "learned".
        formula: How the number follows from the items, in one line.
        source: Paper and section that define it, or "memedit" for our own.
        protocol: How the items are measured: real generation or teacher forced, and the match rule.
        higher_is_better: Whether more is better; None where neither direction is.
    """

    name: str
    family: str
    formula: str
    source: str
    protocol: str
    higher_is_better: bool | None

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        return asdict(self)


def all_metrics() -> tuple[MetricInfo, ...]:
    """Return every metric that memedit measures, family by family."""
    entries: dict[str, MetricInfo] = {}
    for module in FAMILY_MODULES:
        for entry in importlib.import_module(f"memedit.evaluation.{module}").METRICS:
            assert entry.name not in entries, f"{module} declares {entry.name!r} a second time"
            entries[entry.name] = entry
    return tuple(entries.values())


def metric_info(name: str) -> MetricInfo:
    """Return the entry of one metric.

    Args:
        name: Its name.
    Returns:
        The entry.
    Raises:
        ValueError: no metric has that name.
    """
    entries = {entry.name: entry for entry in all_metrics()}
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(sorted(entries))}"
        raise ValueError(f"name must be a metric of the catalogue, got {name!r}: {hint}")
    return entries[name]
