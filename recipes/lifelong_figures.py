"""Figures of a lifelong run: the retention matrix, recall by age, and what each batch cost.

What: `draw`.
Why: decay, collapse and growing cost show as a shape.
How: matplotlib, from the JSON file alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Values = Mapping[str, Any]


def draw(values: Values, folder: Path) -> list[Path]:
    """Draw all figures of a finished run.

    Args:
        values: what recipes/lifelong.py wrote.
        folder: where the SVG files go.
    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"retention-matrix": _matrix, "recall-by-age": _by_age, "cost-per-batch": _cost, "rows": _rows}
    paths = []
    for name, drawn in figures.items():
        figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
        drawn(axes, values)
        paths.append(folder / f"{name}.svg")
        figure.savefig(paths[-1])
        plt.close(figure)
    return paths


def _matrix(axes: Axes, values: Values) -> None:
    scores = values["final"]["retention_matrix"]["scores"]
    table = np.array([[np.nan if score is None else score for score in row] for row in scores])
    shown = axes.imshow(table, vmin=0, vmax=1, cmap="viridis", aspect="auto", interpolation="nearest")
    axes.figure.colorbar(shown, ax=axes, label="right in the trained wording")
    axes.set(xlabel="batch asked", ylabel="after batch", title="Retention matrix")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda place, _: f"{place + 1:.0f}")


def _by_age(axes: Axes, values: Values) -> None:
    ages = values["final"]["retained_by_age"]
    heights = np.array([metric["value"] for metric in ages])
    ends = np.array([[metric["low"], metric["high"]] for metric in ages])
    errors = np.abs(ends.T - heights)
    axes.errorbar(range(len(ages)), heights, yerr=errors, marker="o", capsize=3)
    names = [metric["name"].removeprefix("retained_age_").replace("_", " ") for metric in ages]
    axes.set_xticks(range(len(ages)), names)
    axes.set(ylim=(0, 1.02), xlabel="later edits", ylabel="still right", title="Recall by age of the edit")


def _cost(axes: Axes, values: Values) -> None:
    entries = values["batches"]
    numbers = range(1, len(entries) + 1)
    for name, label in (("training", "planning and training"), ("evaluation", "measuring before and after")):
        axes.plot(numbers, [entry["seconds"][name] for entry in entries], marker=".", label=label)
    composed = [(entry["slots"] or {}).get("compose_seconds", np.nan) for entry in entries]
    axes.plot(numbers, composed, marker=".", label="composing the earlier edits")
    axes.set(xlabel="batch", ylabel="seconds", title="Cost of a batch as the store grows", ylim=(0, None))
    axes.legend()


def _rows(axes: Axes, values: Values) -> None:
    entries = values["batches"]
    numbers = range(1, len(entries) + 1)
    for name, label in (("mean_norm", "mean"), ("norm_95", "95 % quantile"), ("largest_norm", "largest")):
        axes.plot(numbers, [entry["rows"].get(name, np.nan) for entry in entries], marker=".", label=label)
    axes.set(xlabel="batch", ylabel="Euclidean norm", title="Norm of the written rows", ylim=(0, None))
    axes.legend()
