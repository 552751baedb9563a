"""What `memedit forget` and `memedit compact` show.

What: `print_forgetting`, `print_compaction`, `print_committed`; all read report objects, as the journal keeps
them.
Why: who takes something out must see that it is gone, that nothing else went with it, and how to get it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memedit.reports.console import one_line
from memedit.reports.corrections import MAX_ITEMS, print_again, print_more, share_text
from memedit.reports.figures import patch_size
from memedit.reports.inject import gate_refuses, next_command

__all__ = ["print_committed", "print_compaction", "print_forgetting"]

_FORGOTTEN = (
    ("as_base_trained_wording", "as the base model, own prompt"),
    ("as_base_held_out_wording", "as the base model, held-out wordings"),
    ("as_base_question", "as the base model, questions"),
    ("still_said", "still answered with the target"),
    ("others_unchanged", "other stored facts, answer unchanged"),
    ("retained", "retained facts"),
)
_COMPARED = (
    ("trained_wording", "trained wording"),
    ("held_out_wording", "held-out wordings"),
    ("question", "questions"),
    ("retained", "retained facts"),
)


def print_forgetting(console: Console, report: Mapping[str, Any]) -> None:
    """Print what was taken out, what the model says now, and what else changed.

    Args:
        console: Where to.
        report: The object that `forget --json` prints.
    """
    table = Table(box=None, pad_edge=False, expand=True)
    for heading, ratio in (("forgotten", 5), ("before", 3), ("now", 3), ("base model", 3)):
        table.add_column(heading, ratio=ratio, no_wrap=True, overflow="ellipsis")
    forgotten = report["forgotten"]
    for item in forgotten[:MAX_ITEMS]:
        table.add_row(*(Text(one_line(item[key])) for key in ("prompt", "before", "after", "base")))
    console.print(table)
    print_more(console, forgotten)
    console.print()
    for name, label in _FORGOTTEN:
        console.print(f"{label}: {share_text(report['metrics'][name])}")
    console.print(f"perplexity ratio: {_number(report['metrics']['perplexity_ratio'])}")
    print_again(console, report["taught_again"])
    _print_changes(console, "changed", report["others_changed"])
    _print_changes(console, "lost", report["retained_lost"])
    for reason in report["reasons"]:
        console.print(Text(f"  {one_line(reason)}", style="red"))


def print_compaction(console: Console, report: Mapping[str, Any]) -> None:
    """Print what was merged, the sizes before and after, and, where it was trained anew, the comparison.

    Args:
        console: Where to.
        report: The object that `compact --json` prints.
    """
    counts, rows = report["counts"], report["rows"]
    console.print(
        f"{len(report['merged'])} edits with {counts['facts']} facts: {', '.join(report['merged'])}"
    )
    console.print(f"rows: {rows['before']:,} -> {rows['after']:,}")
    for key, label in (("bytes_in_use", "read when the store is opened"), ("bytes_on_disk", "on disk")):
        sizes = report[key]
        console.print(f"{label}: {patch_size(sizes['before'])} -> {patch_size(sizes['after'])}")
    if not report["retrained"]:
        console.print("no bit of the sum changed, so no answer did")
        return
    for name, label in _COMPARED:
        found = report["compared"][name]
        console.print(
            f"{label}: {share_text(found['before'])} -> {share_text(found['after'])}; {found['lost']} lost, "
            f"{found['gained']} gained, exact McNemar p = {found['p_value']:.2g}"
        )
    leak = report["leak"]
    console.print(f"leak: {share_text(leak['before'])} -> {share_text(leak['after'])}")
    console.print(f"perplexity ratio: {_number(report['perplexity_ratio'])}")


def print_committed(
    console: Console, edit_id: str | None, report: Mapping[str, Any], *, store: Path, dry_run: bool
) -> None:
    """Print where the edit is and how to take it back, or that nothing was written.

    Args:
        console: Where to.
        edit_id: The edit; None where it was not committed.
        report: Its report.
        store: The store, for the next commands.
        dry_run: Whether nothing was to be written.
    """
    console.print()
    if edit_id is None:
        style = "bold yellow" if dry_run else "bold red"
        why = "dry run: nothing was written" if dry_run else "nothing was written: it was refused"
        console.print(why, style=style)
        return
    if gate_refuses(report) or report.get("reasons"):
        console.print("committed although it would have been refused", style="bold red")
    console.print(f"edit {edit_id} is in {store}", style="bold green", soft_wrap=True)
    for words in (("show", edit_id), ("undo", edit_id)):
        console.print(f"  {next_command(store, *words)}", soft_wrap=True)


def _print_changes(console: Console, label: str, changes: Sequence[Mapping[str, str]]) -> None:
    for change in changes[:MAX_ITEMS]:
        line = Text(f"  {label}: ", style="red")
        line.append(one_line(change["prompt"]), style="default")
        line.append(f"  {one_line(change['before'])!r} -> {one_line(change['after'])!r}", style="default")
        console.print(line)
    print_more(console, changes)


def _number(metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return "not measured"
    known = metric["low"] is not None and metric["high"] is not None
    interval = f" [{metric['low']:.4f}, {metric['high']:.4f}]" if known else ""
    return f"{metric['value']:.4f}{interval}"
