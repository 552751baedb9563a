"""What recipes/continual_tiny.py makes of its runs: the summary over seeds, the targets, the table.

What: `summary`, `table`.
Why: a number of three seeds needs its interval and each seed's own value.
How: items of all seeds together, facts resampled (continual_tiny_measures.pooled).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from continual_tiny_measures import Values, pooled
from continual_tiny_methods import LABELS

ONE_BATCH = ("new", "old", "forgotten", "core_forgotten")
SEQUENCE = ("first", *ONE_BATCH)
HEADINGS = {
    "first": "first batch",
    "new": "new facts",
    "old": "old facts",
    "forgotten": "old forgotten",
    "core_forgotten": "dense part's forgotten",
}
BASELINES = ("all", "full", "lora")


def summary(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Values:
    """Put the seeds of each method together.

    Args:
        runs: by kind ("one batch", "sequence") every seed's runs.

    Returns:
        By stage ("one batch", "5 batches", ...) and method the measures with intervals; and the targets.
    """
    stages: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for kind, of_kind in runs.items():
        for run in of_kind:
            for one in run["points"]:
                stage = kind if "batch" not in one else f"{one['batch']} batches"
                by_method = stages.setdefault(stage, {})
                by_method.setdefault(run["course"]["method"], []).append({**one, "course": run["course"]})
    found = {
        stage: {name: _method(by_method[name]) for name in LABELS if name in by_method}
        for stage, by_method in stages.items()
    }
    return {"stages": found, "targets": targets(found)}


def _method(points: Sequence[Mapping[str, Any]]) -> Values:
    names = SEQUENCE if "first" in points[0]["items"] else ONE_BATCH
    measures = {name: pooled([one["items"][name] for one in points]) for name in names}
    seconds = [one["seconds"] for one in points]
    return {"course": points[0]["course"], "seconds": sum(seconds) / len(seconds), **measures}


def targets(stages: Mapping[str, Mapping[str, Any]]) -> Values:
    """Hold memedit's own edit against what was asked for; True = met."""
    found: Values = {}
    for stage, by_method in stages.items():
        own = by_method.get("memory")
        if own is None:
            continue
        if stage == "one batch":
            lost = [by_method[name]["forgotten"]["value"] for name in BASELINES if name in by_method]
            least = min(lost, default=math.inf)
            found[stage] = {
                "new >= .8": own["new"]["value"] >= 0.8,
                "forgotten <= .05": own["forgotten"]["value"] <= 0.05,
                "at most half of the best baseline's": own["forgotten"]["value"] <= least / 2,
            }
        else:
            found[stage] = {
                "first batch >= .95": own["first"]["value"] >= 0.95,
                "all >= .90": own["new"]["value"] >= 0.90,
                "old >= .92": own["old"]["value"] >= 0.92,
            }
    return found


def table(found: Mapping[str, Any]) -> str:
    """The stages as Markdown: percent [95 % interval]."""
    parts = []
    for stage, by_method in found["stages"].items():
        names = ONE_BATCH if stage == "one batch" else SEQUENCE
        heads = ["method", "settings", *(HEADINGS[name] for name in names), "CPU s"]
        lines = [f"**{stage}**", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for name, one in by_method.items():
            cells = [_percent(one[measure]) for measure in names]
            told = [LABELS[name], _settings(one["course"]), *cells, f"{one['seconds']:.0f}"]
            lines.append(f"| {' | '.join(told)} |")
        met = [
            f"{name}: {'met' if yes else 'missed'}" for name, yes in found["targets"].get(stage, {}).items()
        ]
        parts.append("\n".join([*lines, "", "; ".join(met)]))
    return "\n\n".join(parts)


def _percent(one: Mapping[str, Any]) -> str:
    if one["value"] is None:
        return "-"
    return f"{100 * one['value']:.1f} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"


def _settings(course: Mapping[str, Any]) -> str:
    told = {name: value for name, value in course["settings"].items() if name != "passes"}
    if "passes" in course["settings"]:
        told["passes"] = course["stop"] or course["settings"]["passes"]
    return ", ".join(f"{name} {value:g}" for name, value in told.items())
