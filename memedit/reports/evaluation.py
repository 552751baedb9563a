"""The figures of an evaluation: one state, or two side by side with what changed.

What: `print_evaluation`, `print_metric_list`, `write_samples`.
Why: a user compares numbers taken in the same way, and looks up the texts behind one that surprises.
How: one line a metric, grouped by family in the catalogue's order; intervals in brackets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memedit.evaluation.samples import Evaluation, Sample
from memedit.evaluation.statistics import Metric

__all__ = ["print_evaluation", "print_metric_list", "write_samples"]

_FOOT = "Brackets: 95 % interval; differences are paired. `memedit evaluate --list` says what each metric is."


def print_evaluation(console: Console, states: Mapping[str, Evaluation], differences: Evaluation) -> None:
    """Print every metric of one state or two, then what could not be measured.

    Args:
        console: Where to.
        states: What was found, by name of the state.
        differences: What changed from the first state to the second.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for name in states:
        table.add_column(name, no_wrap=True)
    if len(states) > 1:
        table.add_column("change", no_wrap=True)
    table.add_column("n", justify="right")
    changed = {metric.name: metric for metric in differences.metrics}
    rows = _rows(states)
    for name, metrics in rows.items():
        cells = [name, *(_shown(metric) for metric in metrics)]
        if len(states) > 1:
            cells.append(_shown(changed.pop(name, None), signed=True))
        table.add_row(*cells, str(max(metric.n for metric in metrics if metric)))
    for name, metric in changed.items():
        table.add_row(name, *[""] * len(states), _shown(metric), str(metric.n))
    console.print(table)
    console.print(Text(_FOOT, style="dim"))
    notes = [(name, note) for name, found in states.items() for note in found.notes]
    for name, note in [*notes, *(("change", note) for note in differences.notes)]:
        console.print(Text(f"  note ({name}): {note}", style="yellow"))


def print_metric_list(console: Console, entries: Sequence[Any]) -> None:
    """Print what every metric is.

    Args:
        console: Where to.
        entries: Entries of the catalogue.
    """
    family = None
    for entry in entries:
        if entry.family != family:
            family = entry.family
            console.print(Text(f"\n{family}", style="bold"))
        direction = {True: "more is better", False: "less is better", None: "no direction"}
        console.print(Text(f"  {entry.name} ({direction[entry.higher_is_better]})"))
        console.print(Text(f"      {entry.formula}", style="dim"))
        console.print(Text(f"      {entry.protocol}; {entry.source}", style="dim"))


def write_samples(path: Path, states: Mapping[str, Evaluation]) -> int:
    """Write one line of JSON for each item: prompt, expected, text and verdict in every state.

    Args:
        path: The file, replaced where it exists.
        states: What was found, by name of the state.
    Returns:
        How many lines were written.
    """
    items: dict[tuple[str, str], dict[str, Sample]] = {}
    for name, found in states.items():
        for sample in found.samples:
            items.setdefault((sample.metric, sample.item), {})[name] = sample
    lines = [_line(list(states), samples) for samples in items.values()]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def _line(names: Sequence[str], samples: Mapping[str, Sample]) -> str:
    any_state = next(iter(samples.values()))
    two = len(names) == 2
    record: dict[str, Any] = {
        "metric": any_state.metric,
        "item": any_state.item,
        "prompt": any_state.prompt,
        "expected": list(any_state.expected),
    }
    for key, name in zip(("before", "after") if two else ("text",), names, strict=True):
        sample = samples.get(name)
        record[key] = sample.text if sample else None
        record[f"verdict_{key}" if two else "verdict"] = _number(sample.value) if sample else None
    return json.dumps(record)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rows(states: Mapping[str, Evaluation]) -> dict[str, list[Metric | None]]:
    """Each metric in each state, in the order of first appearance."""
    rows: dict[str, list[Metric | None]] = {}
    for place, found in enumerate(states.values()):
        for metric in found.metrics:
            rows.setdefault(metric.name, [None] * len(states))[place] = metric
    return rows


def _shown(metric: Metric | None, *, signed: bool = False) -> str:
    if metric is None:
        return "-"
    if not math.isfinite(metric.value):
        return "not measured"
    form = "+.3f" if signed else ".3f"
    if not (math.isfinite(metric.low) and math.isfinite(metric.high)):
        return format(metric.value, form)
    return f"{metric.value:{form}} [{metric.low:{form}}, {metric.high:{form}}]"
