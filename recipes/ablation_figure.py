"""The figure of an ablation: every measure of every variant as a dot with its interval.

What: `draw`.
Why: which changes matter shows at a glance, and so does how little most of them can be told apart.
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


def draw(results: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Draw the results.

    Args:
        results: of each variant, as recipes/ablations.py keeps them; the first is the default, whose value is
            a line in each panel.
        path: the file, its form by its ending.

    Returns:
        The file.
    """
    names = list(results)
    first = results[names[0]]["metrics"]
    measures = [name for name in first if first[name]["value"] is not None]
    size = (2.2 * len(measures) + 1.5, 0.26 * len(names) + 1.4)
    figure, panels = plt.subplots(
        1, len(measures), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for axes, measure in zip(panels[0], measures, strict=True):
        found = [results[name]["metrics"][measure] for name in names]
        table = np.array([[one["value"], one["low"], one["high"]] for one in found], dtype=float)
        middle, low, high = table.T
        axes.errorbar(middle, range(len(names)), xerr=[middle - low, high - middle], fmt="o", markersize=4)
        axes.axvline(middle[0], color="grey", linewidth=0.8, linestyle=":")
        axes.set_title(measure.replace("_", " "), fontsize=8)
        axes.tick_params(labelsize=7)
    panels[0][0].set_yticks(range(len(names)), names)
    panels[0][0].invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
    return path
