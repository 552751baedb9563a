"""Figures of the comparison: recall of each kind, the curve over slots, and the loss as facts are read again.

What: `draw`.
Why: which kind recalls more, and where more slots stop paying, shows as a shape.
How: matplotlib, from the JSON file alone. Bars and points are means over seeds, dots the single seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from architectures_models import DENSE, KINDS

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Values = Mapping[str, Any]
_HELD_OUT = "held_out_wording"


def draw(values: Values, folder: Path) -> list[Path]:
    """Draw all figures of a finished comparison.

    Args:
        values: what recipes/architectures.py wrote.
        folder: where the PNG files go.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary, keys = values["summary"], values["identity"]["sizes"]
    base = {size["name"]: size["num_keys"] ** 2 for size in keys}
    compared = [entry for entry in summary if entry["slots"] in (None, base[entry["size"]])]
    figures: dict[str, Callable[[Any], None]] = {
        "recall": lambda axes: _recall(axes, compared),
        "slots": lambda axes: _curve(axes, summary, values["identity"]["curve_kind"]),
        "loss": lambda axes: _loss(axes, list(values["runs"].values()), base),
    }
    paths = []
    for name, drawn in figures.items():
        figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
        drawn(axes)
        paths.append(folder / f"architectures-{name}.png")
        figure.savefig(paths[-1], dpi=110)
        plt.close(figure)
    return paths


def _recall(axes: Axes, compared: Sequence[Values]) -> None:
    """Held-out wordings; the light bar is what is left with the table zeroed."""
    sizes = list(dict.fromkeys(entry["size"] for entry in compared))
    kinds = [kind for kind in KINDS if any(entry["kind"] == kind for entry in compared)]
    width = 0.8 / len(sizes)
    for place, size in enumerate(sizes):
        of_size = {entry["kind"]: entry for entry in compared if entry["size"] == size}
        for at, kind in enumerate(kinds):
            if kind not in of_size:
                continue
            recall, x = of_size[kind]["recall"], at + (place - (len(sizes) - 1) / 2) * width
            found = recall["as_it_is"][_HELD_OUT]
            axes.bar(x, found["value"], width * 0.9, color=f"C{place}", label=size if at == 0 else None)
            axes.plot([x] * len(found["by_seed"]), found["by_seed"], "k.", markersize=4)
            if "zeroed" in recall:
                axes.bar(x, recall["zeroed"][_HELD_OUT]["value"], width * 0.9, color="white", alpha=0.6)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set(ylabel="recall in held-out wordings", title="Equal FLOPs and tokens (light: table zeroed)")
    axes.legend()


def _curve(axes: Axes, summary: Sequence[Values], kind: str) -> None:
    for place, size in enumerate(dict.fromkeys(entry["size"] for entry in summary)):
        points = sorted(
            (entry for entry in summary if entry["size"] == size and entry["kind"] == kind),
            key=lambda entry: entry["slots"],
        )
        found = [entry["recall"]["as_it_is"][_HELD_OUT] for entry in points]
        slots = [entry["slots"] for entry in points]
        axes.plot(
            slots, [one["value"] for one in found], marker="o", color=f"C{place}", label=f"{size} {kind}"
        )
        for x, one in zip(slots, found, strict=True):
            axes.plot([x] * len(one["by_seed"]), one["by_seed"], ".", color=f"C{place}", markersize=4)
        dense = [entry for entry in summary if entry["size"] == size and entry["kind"] == DENSE]
        for entry in dense:
            line = entry["recall"]["as_it_is"][_HELD_OUT]["value"]
            axes.axhline(line, color=f"C{place}", linestyle=":", label=f"{size} dense")
    axes.set(xlabel="slots", ylabel="recall in held-out wordings", title="Equal FLOPs, more slots")
    if any(entry["kind"] == kind for entry in summary):
        axes.set_xscale("log")
    axes.legend()


def _loss(axes: Axes, runs: Sequence[Values], base: Mapping[str, int]) -> None:
    """Training loss of the largest size, mean over seeds."""
    size = list(base)[-1]
    for place, kind in enumerate(KINDS):
        curves = [
            run["loss_by_exposure"]
            for run in runs
            if run["kind"] == kind and run["size"] == size and run["slots"] in (None, base[size])
        ]
        if curves:
            means = [sum(step) / len(step) for step in zip(*curves, strict=True)]
            axes.plot(range(1, len(means) + 1), means, marker=".", color=f"C{place}", label=kind)
    axes.set(xlabel="times that every fact was read", ylabel="training loss", title=f"Loss, {size}")
    axes.legend()
