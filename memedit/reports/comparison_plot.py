"""The Pareto plot of a comparison: what was learned against what was lost.

What: `draw_comparison`.
Why: a method is better only where it lies above and left of another.
How: matplotlib without a window; points with 95 % intervals, and each seed's way there as a thin line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["draw_comparison"]

_SIZE = (7.0, 5.0)
_DPI = 150


def draw_comparison(found: Mapping[str, Any], path: Path) -> None:
    """Draw a comparison into a file.

    Args:
        found: what memedit.baselines.comparing.compare returned.
        path: the file; its ending says which format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (name, method) in enumerate(found["methods"].items()):
        colour = f"C{number % 10}"
        for way in method["trajectories"]:
            points = [point for point in way if point["lost"] is not None]
            axes.plot(
                [point["lost"] for point in points],
                [point["held_out"] for point in points],
                color=colour,
                linewidth=0.8,
                alpha=0.5,
            )
        _point(axes, name, method["metrics"], colour)
    axes.set_xlabel("well-known facts lost (share of those known before)")
    axes.set_ylabel("held-out wordings answered right (share)")
    axes.set_ylim(-0.02, 1.02)
    axes.set_title(f"{found['facts']['taught']} facts, {found['model']}; bars: 95 % intervals")
    axes.grid(visible=True, alpha=0.3)
    # A model that knew none of the well-known facts has nothing to lose, and no point.
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(path)


def _point(axes: Any, name: str, metrics: Mapping[str, Any], colour: str) -> None:
    learned = metrics.get("held_out_wording") or metrics["trained_wording"]
    kept = metrics.get("retained")
    if kept is None or kept["value"] is None:
        return
    lost = 1 - kept["value"]
    axes.errorbar(
        lost,
        learned["value"],
        xerr=[[max(0.0, lost - (1 - kept["high"]))], [max(0.0, (1 - kept["low"]) - lost)]],
        yerr=[[max(0.0, learned["value"] - learned["low"])], [max(0.0, learned["high"] - learned["value"])]],
        fmt="o",
        color=colour,
        capsize=3,
        label=name,
    )
