"""The figures of an evaluation: one state, or two side by side with what changed.

What: `print_evaluation`, `print_harness`, `print_metric_list`, `write_samples`.
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

from memedit.evaluation.lifelong import RetentionMatrix, matrix_of
from memedit.evaluation.samples import Evaluation, Sample
from memedit.evaluation.statistics import Metric

__all__ = ["print_evaluation", "print_metric_list", "write_samples"]

_MOST_UPDATES = 12
_FOOT = (
    "Brackets: 95 % interval; changes are paired. --json has the intervals of both states and every "
    "protocol; `memedit evaluate --list` says what each metric is."
)


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
        change = changed.pop(name, None)
        # The interval of the paired change says more than those of its two ends.
        cells = [name, *(_shown(metric, interval=change is None) for metric in metrics)]
        if len(states) > 1:
            cells.append(_shown(change, signed=True))
        table.add_row(*cells, str(max(metric.n for metric in metrics if metric)))
    for name, metric in changed.items():
        table.add_row(name, *[""] * len(states), _shown(metric), str(metric.n))
    console.print(table)
    for name, found in states.items():
        matrix = matrix_of(found.samples)
        if matrix is not None:
            _print_matrix(console, name, matrix)
    console.print(Text(_FOOT, style="dim"))
    notes = [(name, note) for name, found in states.items() for note in found.notes]
    for name, note in [*notes, *(("change", note) for note in differences.notes)]:
        console.print(Text(f"  note ({name}): {note}", style="yellow"))


def _print_matrix(console: Console, name: str, matrix: RetentionMatrix) -> None:
    """Print what was right of each batch after each update; of many updates the first ones and the last.

    Args:
        console: Where to.
        name: Of the state that is the last update.
        matrix: What `matrix_of` made of its samples.
    """
    last = len(matrix.scores) - 1
    shown = [
        place
        for place in range(last + 1)
        if last < _MOST_UPDATES or place in (*range(_MOST_UPDATES - 1), last)
    ]
    console.print(Text(f"\nretention matrix of {name}: right after update (down) of batch (across)"))
    table = Table(box=None, pad_edge=False)
    table.add_column("after", justify="right")
    for batch in shown:
        table.add_column(f"{batch + 1}", justify="right")
    for update in shown:
        cells = [
            _short(score, signed=False) if math.isfinite(score) else "" for score in matrix.scores[update]
        ]
        table.add_row(f"{update + 1}", *(cells[batch] for batch in shown))
    console.print(table)


def print_harness(
    console: Console, runs: Mapping[str, Mapping[str, Any]], differences: Sequence[Any]
) -> None:
    """Print what lm-evaluation-harness reported.

    Args:
        console: Where to.
        runs: By state what `harness_tasks` returned.
        differences: What `compare_harness` made of two of them; empty where there is one.
    """
    table = Table(box=None, pad_edge=False, title="lm-evaluation-harness", title_justify="left")
    for name in ("task", "metric", *runs, *(["change"] if differences else []), "n"):
        table.add_column(name, no_wrap=True)
    changes = {(one.task, one.metric): one.difference for one in differences}
    first = next(iter(runs.values()))["tasks"]
    for task, result in first.items():
        for metric in result["metrics"]:
            cells = [_with_error(run["tasks"][task]["metrics"][metric]) for run in runs.values()]
            if differences:
                cells.append(_shown(changes.get((task, metric)), signed=True))
            table.add_row(task, metric, *cells, str(result["n"]))
    console.print(table)


def _with_error(metric: Mapping[str, Any]) -> str:
    """A value with its standard error, as the harness prints it."""
    value, error = metric["value"], metric["stderr"]
    if value is None:
        return "-"
    return f"{value:.4f}" if error is None else f"{value:.4f} +- {error:.4f}"


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


def _shown(metric: Metric | None, *, signed: bool = False, interval: bool = True) -> str:
    if metric is None:
        return "-"
    if not math.isfinite(metric.value):
        return "not measured"
    value, low, high = (_short(number, signed=signed) for number in (metric.value, metric.low, metric.high))
    if not interval or not (math.isfinite(metric.low) and math.isfinite(metric.high)):
        return value
    return f"{value} [{low}, {high}]"


def _short(number: float, *, signed: bool) -> str:
    """Three decimals below 10, one above, and no zero in front of the point: two states must fit a line."""
    text = f"{number:{'+' if signed else ''}.{3 if abs(number) < 10 else 1}f}"
    return text.replace("0.", ".", 1) if abs(number) < 1 else text
