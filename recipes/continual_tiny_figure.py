"""The figure of recipes/continual_tiny.py: what is forgotten for what is learned, and what a sequence leaves.

What: `draw`.
Why: settings trade learning for forgetting; a method is where its whole front is, not where one setting is.
How: matplotlib, from the JSON file alone. Small dots are candidates on the development model, lines their
Pareto fronts, large dots with intervals what the chosen settings did on the models that are reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from continual_tiny_methods import LABELS
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = dict(zip(LABELS, ("tab:blue", "tab:cyan", "tab:orange", "tab:red", "tab:green"), strict=True))
MEASURES = {"first": "first batch", "new": "all new", "old": "old"}


def draw(values: Mapping[str, Any], path: Path) -> Path:
    """Draw the results.

    Args:
        values: what the recipe's file holds.
        path: the file, its form by its ending.

    Returns:
        The file.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    _fronts(left, values)
    _sequence(right, values["summary"]["stages"])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def pareto(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (learned, forgotten) of which no other learned as much and forgot less, in order."""
    front: list[tuple[float, float]] = []
    for learned, forgotten in sorted(points, key=lambda one: (-one[0], one[1])):
        if not front or forgotten < front[-1][1]:
            front.append((learned, forgotten))
    return front[::-1]


def _fronts(axes: Axes, values: Mapping[str, Any]) -> None:
    found = values["summary"]["stages"].get("one batch", {})
    for method, colour in COLOURS.items():
        points = [
            (100 * one["new"], 100 * one["forgotten"])
            for key, run in values["runs"].items()
            if key.startswith(f"dev | one batch | {method} ")
            for one in run["points"]
        ]
        if points:
            axes.plot(*zip(*points, strict=True), ".", color=colour, alpha=0.4)
            axes.plot(*zip(*pareto(points), strict=True), color=colour, linewidth=1)
        if method in found:
            new, lost = found[method]["new"], found[method]["forgotten"]
            axes.errorbar(
                100 * new["value"], 100 * lost["value"], xerr=_error(new), yerr=_error(lost), fmt="o",
                color=colour, capsize=3, label=LABELS[method],
            )  # fmt: skip
    axes.axvline(80, color="grey", linestyle=":", linewidth=0.8)
    axes.set(
        xlabel="new facts in held-out wordings, %",
        ylabel="old facts forgotten, %",
        title="One batch",
        ylim=(-1, None),
    )
    axes.legend(fontsize=8)


def _sequence(axes: Axes, stages: Mapping[str, Any]) -> None:
    name = [stage for stage in stages if stage != "one batch"][-1]
    for place, (method, one) in enumerate(stages[name].items()):
        for at, measure in enumerate(MEASURES):
            found = one[measure]
            axes.errorbar(
                at + 0.12 * (place - 2), 100 * found["value"], yerr=_error(found), fmt="o",
                color=COLOURS[method], capsize=3,
            )  # fmt: skip
    axes.set_xticks(range(len(MEASURES)), list(MEASURES.values()))
    axes.set(ylabel="right, %", title=f"After {name}, one after the other", ylim=(0, 102))


def _error(found: Mapping[str, Any]) -> list[list[float]]:
    return [[100 * (found["value"] - found["low"])], [100 * (found["high"] - found["value"])]]
