"""Forgetting, and time, at equal learning: where each method's trajectory first reaches a level of recall.

What: `Point`, `crossing`, `equal_learning`.
Why: a method that learned half as much and forgot half as much is no better. Compared at one level of recall
in held-out wordings, forgetting says what that learning costs.
How: between two measured passes everything is taken to move along a line; a level is reached where the
trajectory first crosses it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memedit.evaluation.statistics import wilson_interval

LEVELS = (0.3, 0.5, 0.7, 0.8, 0.9)
_NEARLY = 0.5


@dataclass(frozen=True)
class Point:
    """A method after some passes.

    Attributes:
        seconds: training until then.
        held_out: share of held-out wordings answered right.
        lost: share of what was known that is lost.
    """

    seconds: float
    held_out: float
    lost: float


def crossing(path: Sequence[Point], level: float) -> Point | None:
    """Find where a trajectory first reaches a level of recall.

    Args:
        path: from the model without edits on, in the order of the passes.
        level: share of held-out wordings.

    Returns:
        The point at the level, None when it is never reached.
    """
    for before, after in itertools.pairwise(path):
        if before.held_out >= level:
            return before
        if after.held_out >= level:
            share = (level - before.held_out) / (after.held_out - before.held_out)
            return Point(
                before.seconds + share * (after.seconds - before.seconds),
                level,
                before.lost + share * (after.lost - before.lost),
            )
    return None


def equal_learning(paths: Mapping[str, Sequence[Sequence[Point]]], num_known: int) -> dict[str, Any]:
    """Compare methods at equal recall.

    Args:
        paths: by method the trajectory of each seed, the model without edits first.
        num_known: items that could be lost.

    Returns:
        "common_level": the highest recall that all seeds of all methods reach that come to at least half of
        the best method's; None without methods. "not_reached": the methods that do not. "levels": for that
        level and LEVELS by method what was lost (with an interval over the items, and the seeds' own values)
        and the training seconds; None where a seed does not reach it.
    """
    reach = {name: min(max(p.held_out for p in path) for path in seeds) for name, seeds in paths.items()}
    best = max(reach.values(), default=math.nan)
    near = {name: found for name, found in reach.items() if found >= _NEARLY * best}
    common = min(near.values(), default=None)
    levels = sorted({*LEVELS, *([common] if common is not None else [])})
    return {
        "common_level": common,
        "not_reached": sorted(set(reach) - set(near)),
        "levels": [
            {
                "held_out": level,
                "methods": {name: _at(seeds, level, num_known) for name, seeds in paths.items()},
            }
            for level in levels
        ],
    }


def _at(seeds: Sequence[Sequence[Point]], level: float, num_known: int) -> dict[str, Any] | None:
    found = [crossing(path, level) for path in seeds]
    reached = [point for point in found if point is not None]
    if len(reached) < len(found) or not reached:
        return None
    lost = math.fsum(point.lost for point in reached) / len(reached)
    low, high = wilson_interval(lost * num_known, num_known)
    return {
        "lost": lost,
        "low": low,
        "high": high,
        "n": num_known,
        "lost_by_seed": [point.lost for point in reached],
        "training_seconds": math.fsum(point.seconds for point in reached) / len(reached),
    }
