"""`memedit forget` and `memedit compact`: facts taken out, and many edits made one.

What: thin layers over `memedit.editor`; a compaction that trains nothing needs no model, and imports none.
Why: both are edits like any other: measured or exact, in the journal, and taken back by `memedit undo`.
How: the report is printed, then the exit code says whether it was refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memedit.cli.options import (
    finite,
    gate_option,
    json_option,
    max_forgetting_option,
    max_perplexity_ratio_option,
    model_option,
    print_json,
    store_option,
)
from memedit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from memedit.editor import Edit, Editor
    from memedit.errors import GateRefused

__all__ = ["compact", "forget"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SEED = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the training."
)
_TEXT = click.option(
    "--text", type=_FILE, help="General text for the perplexity; default: prose that is shipped."
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Measure and report, but write nothing.")


@click.command(
    epilog="""\b
Examples:
  memedit show 1 --all --json
  memedit forget 3f9a2c01b7de
  memedit forget --subject Zubrowka
\b
Exit codes: 0 done; 1 refused: a fact is still answered, or other knowledge would be lost; 2 wrong usage.
"""
)
@click.argument("facts", nargs=-1)
@click.option("--subject", "subjects", multiple=True, metavar="NAME", help="Forget all facts about NAME.")
@model_option
@store_option
@_SEED
@max_forgetting_option("the other retained facts")
@max_perplexity_ratio_option
@_TEXT
@gate_option(default="quick", may_be_off=True)
@click.option("--force", is_flag=True, help="Commit even where it is refused; the report says so.")
@_DRY_RUN
@json_option("edit, forgotten, taught_again, metrics, others_changed and more (docs/cli.md)")
def forget(
    *,
    facts: tuple[str, ...],
    subjects: tuple[str, ...],
    model: str | None,
    store: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Take stored facts out of the model: one edit, measured before it counts, undoable to the bit.

    FACTS are ids of stored facts (`memedit show EDIT` lists them), or beginnings that fit one. What the model
    said without the facts comes back where nothing else is stored about the subject. Facts about the subject
    that share its rows are taught again in the same edit; where that fails, nothing is written.
    """
    if not facts and not subjects:
        raise UsageError(
            "nothing to forget: got no FACTS and no --subject",
            remedy="`memedit show EDIT --all` lists facts with their ids.",
        )

    def forgotten(editor: Editor, progress: Any) -> Edit:
        return editor.forget(*facts, subjects=subjects, progress=progress, **settings)

    edit, refusal = _done(store, model, forgotten)
    _print(edit, refusal, store, as_json=as_json, dry_run=settings["dry_run"], compacted=False)


@click.command(
    epilog="""\b
Examples:
  memedit compact
  memedit compact --retrain --dry-run
\b
Exit codes: 0 done; 1 refused: what was retrained is not equal or better; 2 wrong usage, or nothing to merge.
"""
)
@store_option
@click.option(
    "--retrain",
    is_flag=True,
    help="Train all facts afresh, together, and keep that only where it is measured to be equal or better. "
    "The options below belong to it, --dry-run and --json apart.",
)
@model_option
@_SEED
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 1),
    callback=finite,
    default=0.0,
    show_default=True,
    help="Share of each group of questions that may be lost, net of what was gained.",
)
@_TEXT
@gate_option(default="full", may_be_off=False)
@click.option("--force", is_flag=True, help="Keep what was retrained whatever was measured.")
@_DRY_RUN
@json_option("edit, merged, rows, bytes_in_use, bytes_on_disk and more (docs/cli.md)")
def compact(
    *, store: Path, retrain: bool, model: str | None, as_json: bool, dry_run: bool, **settings: Any
) -> None:
    """Merge all active edits into one: the same model to the bit, without the rows of forgotten facts.

    The merged edits stay on disk, and `memedit undo` brings them back. Without --retrain no model is needed.
    """
    if not retrain:
        _compact_exactly(store, dry_run=dry_run, as_json=as_json)
        return

    def retrained(editor: Editor, progress: Any) -> Edit:
        return editor.compact(retrain=True, dry_run=dry_run, progress=progress, **settings)

    edit, refusal = _done(store, model, retrained)
    _print(edit, refusal, store, as_json=as_json, dry_run=dry_run, compacted=True)


def _compact_exactly(store: Path, *, dry_run: bool, as_json: bool) -> None:
    from memedit.store import Store
    from memedit.store import compact as merge
    from memedit.store.compaction import merged_edit

    with Store.open(store, fingerprint=None, read_only=dry_run) as opened:
        if dry_run:
            edit_id, report = None, merged_edit(opened).report
        else:
            record = merge(opened)
            edit_id, report = record.id, record.report
    _print_report({**report, "edit": edit_id}, store, as_json=as_json, dry_run=dry_run, compacted=True)


def _done(
    store: Path, model: str | None, revise: Callable[[Editor, Any], Edit]
) -> tuple[Edit, GateRefused | None]:
    """The edit, and the refusal that carried it where it was refused."""
    from memedit.reports.progress import rich_progress

    if not (store / "journal.sqlite").exists():
        raise UsageError(f"there is no store at {store}", remedy="`memedit inject FACTS` makes one.")
    with rich_progress() as progress:
        with progress.task("Loading memedit", None):
            from memedit.editor import open_editor
            from memedit.editor.results import EditRefused
        with open_editor(store, model, progress=progress) as editor:
            try:
                return revise(editor, progress), None
            except EditRefused as refused:
                return refused.edit, refused


def _print(
    edit: Edit,
    refusal: GateRefused | None,
    store: Path,
    *,
    as_json: bool,
    dry_run: bool,
    compacted: bool,
) -> None:
    _print_report(edit.report, store, as_json=as_json, dry_run=dry_run and not refusal, compacted=compacted)
    if refusal is not None:
        raise refusal


def _print_report(
    report: dict[str, Any], store: Path, *, as_json: bool, dry_run: bool, compacted: bool
) -> None:
    if as_json:
        print_json(report)
        return
    from memedit.reports.console import report_console
    from memedit.reports.revision import print_committed, print_compaction, print_forgetting

    console = report_console()
    (print_compaction if compacted else print_forgetting)(console, report)
    print_committed(console, report["edit"], report, store=store, dry_run=dry_run)
