"""What `memedit log` and `memedit show` print: the edits of a store, and one of them in full.

What: `print_log`, `print_record` and `committed_report`.
Why: what a model was taught, and at which price, must be readable long after the run, without the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memedit.reports.corrections import print_corrections
from memedit.reports.facts_table import FactRow
from memedit.reports.figures import patch_size, print_figures
from memedit.reports.inject import print_facts
from memedit.reports.revision import print_compaction, print_forgetting

if TYPE_CHECKING:
    from memedit.store import EditRecord, StoredFact

__all__ = ["committed_report", "print_log", "print_record"]


def committed_report(edit: EditRecord) -> dict[str, Any]:
    """Return the report that `inject --json` printed: the journal's, with what only the commit decided."""
    return {**edit.report, "edit": edit.id, "patch_bytes": edit.patch_bytes}


def print_log(
    console: Console, edits: Sequence[EditRecord], store: Path, taken_out: Mapping[str, int]
) -> None:
    """Print one line for each edit, oldest first.

    Args:
        console: Where to.
        edits: The edits.
        store: Their store.
        taken_out: By edit, how many of its facts later edits take out.
    """
    if not edits:
        console.print(f"no edits in {store} yet: `memedit inject FACTS` makes one", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("edit", "when", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("facts", "learned", "retained", "slots", "patch"):
        table.add_column(heading, no_wrap=True, justify="right")
    for edit in edits:
        learned = edit.report.get("counts", {}).get("learned", "-")
        retained = (edit.report.get("metrics", {}).get("retained") or {}).get("value")
        table.add_row(
            edit.id,
            _when(edit.created),
            _state(edit),
            _facts(edit, taken_out.get(edit.id, 0)),
            str(learned),
            "-" if retained is None else f"{retained:.1%}",
            f"{edit.slots_written:,}",
            patch_size(edit.patch_bytes),
        )
    console.print(table)


def print_record(
    console: Console, edit: EditRecord, facts: Sequence[StoredFact], *, store: Path, show_all: bool
) -> None:
    """Print an edit: state, facts with text before and after, figures, patch.

    Args:
        console: Where to.
        edit: The edit.
        facts: Its facts.
        store: Its store.
        show_all: Show every fact.
    """
    heading = Text(f"edit {edit.id} in {store}, ", style="bold")
    heading.append_text(_state(edit))
    console.print(heading, soft_wrap=True)
    console.print(f"made {_when(edit.created)}, seed {edit.seed}, model {edit.report.get('model', '-')}")
    if imported := _imported(edit):
        made = _when(str(imported["created"]))
        said = f"imported: made and measured {made} as edit {imported['edit']} of another store"
        console.print(said, style="cyan", soft_wrap=True)
    console.print()
    _print_revision(console, edit)
    if facts:
        # Of what a later edit holds whole, each fact need not say so.
        shown = [replace(fact, withdrawn_by=None) if edit.merged_into else fact for fact in facts]
        print_facts(console, [FactRow.from_stored(fact) for fact in shown], show_all=show_all)
    if edit.kind in ("inject", "replace"):
        print_figures(console, committed_report(edit))
    console.print(
        f"patch: {edit.slots_written:,} slots, {edit.patch_bytes:,} bytes, SHA-256 {edit.patch_sha256}",
        soft_wrap=True,
    )


def _print_revision(console: Console, edit: EditRecord) -> None:
    """Print what an edit took out or merged, as far as its report says so."""
    if edit.kind == "forget" and "forgotten" in edit.report:
        print_forgetting(console, edit.report)
        console.print()
    elif edit.kind == "compact" and "merged" in edit.report:
        print_compaction(console, edit.report)
        console.print()
    print_corrections(console, edit.report)


def _imported(edit: EditRecord) -> Mapping[str, Any] | None:
    """Where the edit comes from; None where it was made in its store."""
    imported = edit.report.get("imported")
    return imported if isinstance(imported, Mapping) else None


def _facts(edit: EditRecord, taken_out: int) -> str:
    return f"{edit.num_facts - taken_out} of {edit.num_facts}" if taken_out else str(edit.num_facts)


def _state(edit: EditRecord) -> Text:
    kind = "" if edit.kind == "inject" else f" {edit.kind}"
    kind += " imported" if _imported(edit) else ""
    if edit.merged_into is not None:
        return Text(f"in {edit.merged_into}{kind}", style="cyan")
    return Text(f"active{kind}", style="green") if edit.active else Text(f"undone{kind}", style="yellow")


def _when(created: str) -> str:
    return datetime.fromisoformat(created.replace("Z", "+00:00")).astimezone().strftime("%Y-%m-%d %H:%M")
