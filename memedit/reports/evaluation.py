"""The figures of an evaluation: one state, or two side by side with what changed.

What: `print_evaluation`, `print_harness`, `print_metric_list`, `write_samples`.
Why: a user compares numbers taken in the same way, and looks up the texts behind one that surprises.
How: one line a metric, grouped by family in the catalogue's order; intervals in brackets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memedit.evaluation.lifelong import RetentionMatrix, retention_matrix
from memedit.evaluation.matching import normalise
from memedit.evaluation.samples import Evaluation, Sample
from memedit.evaluation.statistics import Metric

__all__ = ["print_evaluation", "print_harness", "print_metric_list", "write_samples"]

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
        matrix = retention_matrix(found.samples)
        if matrix.scores:
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
        matrix: What `retention_matrix` made of its samples.
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


def write_samples(
    path: Path,
    states: Mapping[str, Evaluation],
    differences: Evaluation | None = None,
    harness: Mapping[str, Mapping[str, Any]] | None = None,
) -> int:
    """Write one line of JSON for each item: prompt, expected, text and verdict in every state.

    Args:
        path: The file, replaced where it exists.
        states: What was found, by name of the state.
        differences: What changed from the first state to the second, such as what leaked.
        harness: By state what `harness_tasks` returned.
    Returns:
        How many lines were written.
    Raises:
        OSError: The file cannot be written.
    """
    names = list(states)
    changes = differences.samples if differences else ()
    items = [*_state_items(states), *_change_items(names, changes), *_harness_items(harness or {})]
    lines = [json.dumps(item.to_json(names)) for item in items]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


@dataclass
class _Item:
    """One item; `told` has by state the text and the verdict, each None where there is none."""

    metric: str
    item: str
    prompt: str
    expected: Sequence[str]
    told: dict[str, tuple[str | None, float | None]] = field(default_factory=dict)
    further: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """The line of a file about these states."""
        two = len(names) == 2
        record: dict[str, Any] = {
            "metric": self.metric,
            "item": self.item,
            "prompt": self.prompt,
            "expected": list(self.expected),
        }
        for key, name in zip(("before", "after") if two else ("text",), names, strict=True):
            text, verdict = self.told.get(name, (None, None))
            record[key] = text
            record[f"verdict_{key}" if two else "verdict"] = None if verdict is None else _number(verdict)
        return {**record, **self.further}


def _state_items(states: Mapping[str, Evaluation]) -> Iterable[_Item]:
    items: dict[tuple[str, str], _Item] = {}
    for name, found in states.items():
        for one in found.samples:
            item = _Item(one.metric, one.item, one.prompt, one.expected)
            items.setdefault((one.metric, one.item), item).told[name] = (one.text, one.value)
    return items.values()


def _change_items(names: Sequence[str], samples: Iterable[Sample]) -> Iterator[_Item]:
    """What was found by comparing two states: only the second has a verdict."""
    for sample in samples:
        yield _change_item(names, sample)
        if sample.metric == "leak":
            yield _change_item(names, _changed_at_all(sample))


def _change_item(names: Sequence[str], sample: Sample) -> _Item:
    first, second = names
    # Agreement has no text of its own for the first state: it is what is expected of the second.
    before = sample.details["before"] if "before" in sample.details else next(iter(sample.expected), None)
    told = {first: (before, None), second: (sample.text, sample.value)}
    further = {key: sample.details[key] for key in ("leaked_from",) if key in sample.details}
    return _Item(sample.metric, sample.item, sample.prompt, sample.expected, told, further)


def _changed_at_all(leak: Sample) -> Sample:
    """The item of look_alikes_changed, which is counted from the texts that leak is counted from."""
    before = leak.details["before"]
    differs = normalise(before) != normalise(leak.text)
    return replace(leak, metric="look_alikes_changed", value=float(differs), details={"before": before})


def _harness_items(runs: Mapping[str, Mapping[str, Any]]) -> Iterable[_Item]:
    """The harness's questions, under each metric that has a number for them; it keeps no answers."""
    items: dict[tuple[str, str], _Item] = {}
    for name, run in runs.items():
        for task, metric, sample in _harness_numbers(run):
            number = sample[metric]
            item = _Item(f"{task}/{metric}", sample["item"], sample["prompt"], [sample["target"]])
            # A number with a weight, such as a text's log-probability with its length, counts without it.
            verdict = number[0] if isinstance(number, list) else number
            items.setdefault((item.metric, item.item), item).told[name] = (None, verdict)
    return items.values()


def _harness_numbers(run: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Task, metric and question."""
    for task, result in run["tasks"].items():
        for sample in result["samples"]:
            yield from ((task, metric, sample) for metric in result["metrics"] if metric in sample)


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
