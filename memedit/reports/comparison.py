"""What `memedit compare` shows: what each method learned, kept and cost, and forgetting at equal learning.

What: `print_comparison`.
Why: one look must answer who learned most, who lost least, and at what price.
How: three tables over the JSON that memedit.baselines made; a value stands over its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from memedit.reports.console import one_line

__all__ = ["print_comparison"]

_QUALITY = {
    "trained_wording": "learned",
    "held_out_wording": "reworded",
    "question": "question",
    "behind_a_sentence": "after text",
    "retained": "retained",
    "perplexity_ratio": "perplexity",
    "locality_agreement": "local",
    "editing_score": "score",
    "generated_score": "gen. score",
    "leak": "leak",
}


def print_comparison(console: Console, found: Mapping[str, Any]) -> None:
    """Print a comparison.

    Args:
        console: where to.
        found: what memedit.baselines.comparing.compare returned.
    """
    facts = found["facts"]
    console.print(
        f"{facts['taught']} facts taught to {one_line(found['model'])}"
        + (f"; {facts['known_before']} it knew already" if facts["known_before"] else "")
        + (f"; settings tuned on {facts['development']} other facts" if facts["development"] else "")
    )
    console.print(_quality(found))
    console.print(_costs(found))
    if found["equal_learning"]:
        console.print(_equal(found["equal_learning"]))
        _print_not_reached(console, found["equal_learning"])
    for name, method in found["methods"].items():
        told = ", ".join(f"{key} {value:g}" for key, value in method["settings"].items())
        console.print(f"  {name}: {told}", style="dim")


def _table(title: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("method", no_wrap=True)
    return table


def _quality(found: Mapping[str, Any]) -> Table:
    table = _table("learned and kept (95 % intervals over facts)")
    rows = {"unedited": found["before"], **{n: m["metrics"] for n, m in found["methods"].items()}}
    shown = {name: title for name, title in _QUALITY.items() if any(name in row for row in rows.values())}
    for title in shown.values():
        table.add_column(title, justify="right")
    for name, metrics in rows.items():
        table.add_row(name, *(_metric(metrics.get(metric), metric) for metric in shown))
    return table


def _metric(metric: Mapping[str, Any] | None, name: str) -> str:
    if metric is None or metric["value"] is None:
        return "-"
    digits = 4 if name == "perplexity_ratio" else 3
    value = f"{metric['value']:.{digits}f}"
    if metric["low"] is None or metric["high"] is None:
        return value
    return f"{value}\n{metric['low']:.{digits}f}-{metric['high']:.{digits}f}"


def _costs(found: Mapping[str, Any]) -> Table:
    table = _table("cost (mean over seeds, smallest to largest below)")
    for title in ("s a fact", "CPU s a fact", "peak memory MB", "of it training MB", "to ship KB", "seeds"):
        table.add_column(title, justify="right")
    for name, method in found["methods"].items():
        costs = method["costs"]
        table.add_row(
            name,
            _cost(costs["training_seconds_per_fact"], 1, 3),
            _cost(costs["training_cpu_seconds_per_fact"], 1, 3),
            _cost(costs["peak_memory_mb"], 1, 0),
            _cost(costs["training_memory_mb"], 1, 0),
            _cost(costs["ship_bytes"], 1e-3, 0),
            str(len(method["seeds"])),
        )
    return table


def _cost(cost: Mapping[str, Any], scale: float, digits: int) -> str:
    value, low, high = (f"{cost[key] * scale:,.{digits}f}" for key in ("value", "low", "high"))
    return value if low == high else f"{value}\n{low}-{high}"


def _equal(equal: Mapping[str, Any]) -> Table:
    table = _table("forgetting and training seconds where held-out wordings first reach a level")
    levels = equal["levels"]
    names = list(levels[0]["methods"])
    for level in levels:
        common = " (common)" if level["held_out"] == equal["common_level"] else ""
        table.add_column(f"{level['held_out']:.2f}{common}", justify="right")
    for name in names:
        table.add_row(name, *(_reached(level["methods"][name]) for level in levels))
    return table


def _reached(point: Mapping[str, Any] | None) -> str:
    if point is None:
        return "-"
    return f"{point['lost']:.3f}\n{point['training_seconds']:,.1f} s"


def _print_not_reached(console: Console, equal: Mapping[str, Any]) -> None:
    if equal["not_reached"]:
        console.print(
            "  not counted for the common level, for they learn less than half of the best: "
            + ", ".join(equal["not_reached"]),
            style="dim",
        )
