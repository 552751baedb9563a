"""The figures of an edit: counts, metrics with intervals, what was lost, time and memory.

What: `print_figures`, which reads the report object that `inject --json` prints and the journal keeps.
Why: `inject` and `show` must say the same of one edit, however long ago it was made.
How: reads with defaults, so that the report of an older memedit is shown as far as it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memedit.reports.console import one_line

__all__ = ["counts_line", "patch_size", "print_figures"]

_MAX_LOST = 10
_METRICS = {
    "trained_wording": ("trained wording", "the fact's own prompt"),
    "held_out_wording": ("held-out wordings", "statements never trained"),
    "question": ("questions", "question form not trained"),
    "retained": ("retained facts", ""),
    "perplexity_ratio": ("perplexity ratio", "general text, after/before"),
    "look_alikes_changed": ("look-alikes changed", "never-taught subjects"),
    "leak": ("leak", "answered with a target"),
}
_PROTOCOL = (
    "Answers: greedy generation, natural stop, exact match of target or alias at the start; on the final "
    "model. Brackets: 95 % interval. --json has each protocol in full."
)


def print_figures(console: Console, report: Mapping[str, Any]) -> None:
    """Print counts, metrics, what was lost, and costs.

    Args:
        console: Where to.
        report: The object that `inject --json` prints.
    """
    console.print(counts_line(report.get("counts", {})), style="bold")
    console.print()
    if metrics := report.get("metrics"):
        console.print(_metrics_table(metrics))
        console.print(_PROTOCOL, style="dim")
        _print_lost(console, report.get("retained_lost") or ())
        for note in (report.get("gate") or {}).get("notes", ()):
            console.print(f"  note: {note}", style="yellow")
        console.print()
    for line in _costs(report):
        console.print(line)


def counts_line(counts: Mapping[str, Any]) -> str:
    """Return the counts of an edit in one line; what a report does not count is left out."""
    parts = []
    if "learned" in counts:
        elsewhere = counts.get("learned_in_other_wordings")
        inside = "" if elsewhere is None else f" ({elsewhere} of them in other wordings too)"
        parts.append(f"{counts['learned']} learned{inside}")
    for key, label in (("already_known", "already known"), ("stored", "in the store"), ("failed", "failed")):
        # Few files repeat what the store holds: a zero there would only be noise.
        if key in counts and (counts[key] or key != "stored"):
            parts.append(f"{counts[key]} {label}")
    return f"{counts.get('facts', '?')} facts: {', '.join(parts) or 'not counted'}"


def patch_size(num_bytes: float) -> str:
    """Return the size of a patch as people write it."""
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:,.1f} kB"


def _metrics_table(metrics: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(style="dim", overflow="fold")
    for name, (label, how) in _METRICS.items():
        metric = metrics.get(name)
        if not metric or metric.get("value") is None:
            table.add_row(label, "-", "", "", "not measured")
            continue
        value, interval = _figures(metric, ratio=name == "perplexity_ratio")
        if name == "retained":
            how = f"facts right: {metric['n']} -> {round(metric['value'] * metric['n'])}"
        table.add_row(label, value, Text(interval), f"n {metric['n']:,}", how)
    return table


def _figures(metric: Mapping[str, Any], *, ratio: bool) -> tuple[str, str]:
    value, low, high = metric["value"], metric.get("low"), metric.get("high")
    known = low is not None and high is not None
    if ratio:
        return f"{value:.4f}", f"[{low:.4f}, {high:.4f}]" if known else ""
    return f"{value:.1%}", f"[{low:.1%}, {high:.1%}]" if known else ""


def _print_lost(console: Console, lost: Any) -> None:
    for change in list(lost)[:_MAX_LOST]:
        line = Text("  lost: ", style="red")
        line.append(one_line(change["prompt"]), style="default")
        line.append(f"  {one_line(change['before'])!r} -> {one_line(change['after'])!r}", style="default")
        console.print(line)
    if len(lost) > _MAX_LOST:
        console.print(f"  and {len(lost) - _MAX_LOST} more; --json lists all", style="red")


def _costs(report: Mapping[str, Any]) -> list[str]:
    """One line on time and memory, one on what was written; without what the report does not say."""
    seconds = report.get("seconds", {})
    parts, written = [], []
    if "total" in seconds:
        spent = [f"{key} {seconds[key]:.1f} s" for key in ("training", "evaluation") if key in seconds]
        parts.append(f"{seconds['total']:.1f} s" + (f" ({', '.join(spent)})" if spent else ""))
    if report.get("peak_memory_mb") is not None:
        parts.append(f"peak memory {report['peak_memory_mb']:,.0f} MB")
    if report.get("slots_written") is not None:
        written.append(f"{report['slots_written']:,} slots written")
    if report.get("patch_bytes") is not None:
        written.append(f"patch {patch_size(report['patch_bytes'])}")
    return [", ".join(line) for line in (parts, written) if line]
