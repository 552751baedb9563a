"""Seconds of several runs, summed up as every timing benchmark reports them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def summed_up(runs: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return for each name the number of runs, and the median, lowest and highest of its seconds."""
    return {
        name: {
            "n": len(runs),
            "median": round(statistics.median(run[name] for run in runs), 3),
            "low": round(min(run[name] for run in runs), 3),
            "high": round(max(run[name] for run in runs), 3),
        }
        for name in runs[0]
    }


def print_timings(what: str, figures: Mapping[str, Mapping[str, float]]) -> None:
    """Print one line for each name."""
    width = max(map(len, (what, *figures)))
    print(f"{what:{width}} {'n':>3} {'median s':>9} {'low':>8} {'high':>8}")
    for name, row in figures.items():
        print(f"{name:{width}} {row['n']:3} {row['median']:9.2f} {row['low']:8.2f} {row['high']:8.2f}")
