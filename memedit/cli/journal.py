"""`memedit log`, `show`, `undo` and `redo`: what was taught, and taking it back and forth.

What: thin commands over `memedit.store`.
Why: none of them needs a model: they answer at once, and work where the model can't be loaded.
How: only the journal is read; `undo` and `redo` flip one row of it under the store's lock.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memedit.cli.options import json_option, print_json, store_option
from memedit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memedit.store import EditRecord, Store, StoredFact

__all__ = ["edit_json", "log", "redo", "show", "undo"]

_EDIT_HELP = "EDIT is a name from `memedit log`, the beginning of one, or its number."


@click.command(epilog="\b\nExamples:\n  memedit log\n  memedit log --store my-store --json")
@store_option
@json_option("store, edits")
def log(*, store: Path, as_json: bool) -> None:
    """List the edits in a store, oldest first, with what they hold and whether they are active."""
    with _opened(store, read_only=True) as opened:
        edits = opened.edits()
        taken_out = _taken_out(opened, edits)
    if as_json:
        print_json({"store": str(store), "edits": [edit_json(edit) for edit in edits]})
        return
    from memedit.reports.console import report_console
    from memedit.reports.journal import print_log

    print_log(report_console(), edits, store, taken_out)


@click.command(
    epilog=f"{_EDIT_HELP} `memedit show model` shows the model itself.\n\n"
    "\b\nExamples:\n  memedit show e0001-3f9a2c\n  memedit show 1 --all --json\n  memedit show model"
)
@click.argument("edit")
@store_option
@click.option("--all", "show_all", is_flag=True, help="Show every fact, not only 20 and those that failed.")
@json_option("the keys of `log`, and facts, report, measurements")
def show(*, edit: str, store: Path, show_all: bool, as_json: bool) -> None:
    """Show one edit: its facts with the model's text before and after, metrics, costs and patch.

    Everything shown was measured when the edit was made, on the model of that moment.
    """
    if edit == "model":
        raise UsageError(
            "show: got options before the word model", remedy="Put them behind it: memedit show model --json"
        )
    with _opened(store, read_only=True) as opened:
        record = opened.edit(edit)
        facts = opened.facts(record.id)
        measurements = opened.measurements(record.id)
    from memedit.reports.journal import committed_report, print_record

    if as_json:
        detail = {
            "facts": [_fact_json(fact) for fact in facts],
            "report": committed_report(record),
            "measurements": [dict(measurement) for measurement in measurements],
        }
        print_json({**edit_json(record), **detail})
        return
    from memedit.reports.console import report_console

    print_record(report_console(), record, facts, store=store, show_all=show_all)


@click.command(epilog=f"{_EDIT_HELP}\n\n\b\nExamples:\n  memedit undo\n  memedit undo e0001-3f9a2c")
@click.argument("edit", required=False)
@store_option
@json_option("the keys of `log`'s edits")
def undo(*, edit: str | None, store: Path, as_json: bool) -> None:
    """Take an edit back, exactly: the last active one, or EDIT.

    The model is then what it would be without the edit, to the bit. The edit stays in the store and can be
    put back with `memedit redo`.
    """
    with _opened(store, read_only=False) as opened:
        record = opened.undo(edit)
        num_active = sum(each.active for each in opened.edits())
    _print_flipped(record, num_active, store, as_json=as_json)


@click.command(epilog=f"{_EDIT_HELP}\n\n\b\nExamples:\n  memedit redo\n  memedit redo e0001-3f9a2c")
@click.argument("edit", required=False)
@store_option
@json_option("the keys of `log`'s edits")
def redo(*, edit: str | None, store: Path, as_json: bool) -> None:
    """Put an undone edit back at its old place: the one undone last, or EDIT.

    Its patch is checked against the journal first; a damaged one is refused, and the edit stays undone.
    """
    with _opened(store, read_only=False) as opened:
        record = opened.redo(edit)
        num_active = sum(each.active for each in opened.edits())
    _print_flipped(record, num_active, store, as_json=as_json)


def _taken_out(store: Store, edits: Sequence[EditRecord]) -> dict[str, int]:
    """How many facts later edits take out of each active edit."""
    named = {each.edit for edit in edits if not edit.undone for each in edit.withdraws}
    active = [edit.id for edit in edits if edit.active and edit.id in named]
    return {edit: sum(not fact.active for fact in store.facts(edit)) for edit in active}


def _opened(store: Path, *, read_only: bool) -> Store:
    from memedit.store import Store

    return Store.open(store, fingerprint=None, read_only=read_only)


def _print_flipped(record: EditRecord, num_active: int, store: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(edit_json(record))
        return
    from memedit.reports.inject import next_command

    word, opposite, effect = (
        ("redone", "undo", "takes it") if record.active else ("undone", "redo", "puts it")
    )
    click.echo(f"{word}: edit {record.id} ({record.num_facts} facts); {num_active} active edit(s) in {store}")
    click.echo(f"  {next_command(store, opposite, record.id)}  {effect} back")


def edit_json(edit: EditRecord) -> dict[str, Any]:
    """Return what `--json` says of an edit.

    Args:
        edit: The edit.
    """
    imported = edit.report.get("imported")
    return {
        "edit": edit.id,
        "number": edit.number,
        "created": edit.created,
        "active": edit.active,
        "kind": edit.kind,
        "merged_into": edit.merged_into,
        "imported_from": imported["edit"] if isinstance(imported, dict) else None,
        "withdraws": [{"edit": each.edit, "subject": each.subject} for each in edit.withdraws],
        "seed": edit.seed,
        "num_facts": edit.num_facts,
        "slots_written": edit.slots_written,
        "patch_bytes": edit.patch_bytes,
        "patch_sha256": edit.patch_sha256,
    }


def _fact_json(stored: StoredFact) -> dict[str, Any]:
    told = {"fact": stored.fact.to_json(), "outcome": dict(stored.outcome)}
    return {**told, "withdrawn_by": stored.withdrawn_by}
