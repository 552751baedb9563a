"""What `memedit inject` shows: the facts before and after, the figures, and what to do next.

What: `print_edit`.
Why: the first screen must answer: did it learn, what did it cost, where is it, how do I take it back.
How: the table of facts, then the figures, then one line on where the edit is and the next commands.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from memedit.reports.console import one_line
from memedit.reports.corrections import print_corrections
from memedit.reports.facts_table import MAX_ROWS, FactRow, chosen_rows, facts_table
from memedit.reports.figures import print_figures

if TYPE_CHECKING:
    from memedit.editor import Edit

__all__ = ["gate_refuses", "next_command", "print_edit", "print_facts"]

_DEFAULT_STORE = Path(".memedit")


def print_edit(console: Console, edit: Edit, *, store: Path, dry_run: bool, show_all: bool) -> None:
    """Print what an injection did.

    Args:
        console: Where to.
        edit: What `Editor.inject` returned, or what a refusal carries.
        store: The store, for the next commands.
        dry_run: Whether nothing was to be written.
        show_all: Show every fact.
    """
    rows = [FactRow.from_outcome(outcome) for outcome in edit.outcomes]
    print_facts(console, rows, show_all=show_all)
    print_corrections(console, edit.report)
    print_figures(console, edit.report)
    console.print()
    if edit.committed and edit.id is not None:
        _print_next(console, edit, edit.id, store)
    elif dry_run:
        console.print("dry run: nothing was written", style="bold yellow")
    elif not edit.report["counts"]["learned"]:
        console.print("nothing was written: no fact was newly learned", style="bold yellow")
    else:
        console.print("nothing was written: the gate refused the edit", style="bold red")


def print_facts(console: Console, rows: Sequence[FactRow], *, show_all: bool) -> None:
    """Print the table of facts, how many it leaves out, and why facts failed.

    Args:
        console: Where to.
        rows: All facts.
        show_all: Show every fact, not only 20 and those that failed.
    """
    chosen = chosen_rows(rows, None if show_all else MAX_ROWS)
    console.print(facts_table(chosen))
    if len(chosen) < len(rows):
        console.print(
            f"and {len(rows) - len(chosen)} more, none of them failed; --all shows them", style="dim"
        )
    for row in rows:
        if row.note:
            line = Text("  " + ("not learned: " if row.status == "failed" else "note: "))
            line.stylize("red" if row.status == "failed" else "dim")
            line.append(
                f"{one_line(row.prompt)} [{one_line(row.target)}]: {one_line(row.note)}", style="default"
            )
            console.print(line)
    console.print()


def gate_refuses(report: Mapping[str, Any]) -> bool:
    """Return whether the gate was asked and said no, whatever became of the edit."""
    return (report.get("gate") or {}).get("passed") is False


def next_command(store: Path, *words: str) -> str:
    """Return a command line that a user can paste, with --store where it is not the default."""
    place = () if store == _DEFAULT_STORE else ("--store", str(store))
    return shlex.join(["memedit", *words, *place])


def _print_next(console: Console, edit: Edit, edit_id: str, store: Path) -> None:
    if gate_refuses(edit.report):
        console.print("committed although the gate would have refused it", style="bold red")
    learned = (outcome.fact.prompt for outcome in edit.outcomes if outcome.status == "learned")
    prompt = next(learned, "The capital of Zubrowka is")
    console.print(f"edit {edit_id} is in {store}", style="bold green", soft_wrap=True)
    for words in (("ask", one_line(prompt)), ("show", edit_id), ("undo", edit_id)):
        console.print(f"  {next_command(store, *words)}", soft_wrap=True)
