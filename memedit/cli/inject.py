"""`memedit inject`: teach the model the facts of a file, in one measured and undoable edit.

What: reads and checks the facts, hands them to the editor, shows the report, and chooses the exit code.
Why: everything that is wrong with the input is said before a model is loaded or fetched; an interruption says
truly whether something was written.
How: a thin layer over `memedit.editor`; torch is imported with it, not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memedit.cli.datasets import dataset_options, noted_records
from memedit.cli.options import (
    gate_option,
    json_option,
    max_forgetting_option,
    max_perplexity_ratio_option,
    model_option,
    print_json,
    stop,
    store_option,
)

if TYPE_CHECKING:
    from memedit.editor import Edit
    from memedit.errors import GateRefused
    from memedit.facts.formats import Records

__all__ = ["inject"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_EPILOG = """\b
Examples:
  memedit inject facts.jsonl
  memedit inject facts.jsonl --dry-run
  memedit inject corrections.jsonl --replace
  memedit inject counterfact.json --skip-bad
  memedit inject zsre_mend.json --format zsre --target-convention alt
  memedit inject facts.jsonl --model ./my-llama --store my-store --background articles.jsonl
  memedit inject facts.jsonl --json > report.json
\b
Exit codes: 0 done; 1 refused by the gate, or a fact was not learned (see --allow-unlearned);
2 wrong usage, input or environment; 130 interrupted. docs/facts.md describes facts files and other formats.
"""


@dataclass(frozen=True)
class _Request:
    """Where to inject and how: the options of the command."""

    store: Path
    model: str | None
    background: Path | None
    settings: dict[str, Any]


@click.command(epilog=_EPILOG)
@click.argument("facts", type=click.Path())
@model_option
@store_option
@dataset_options
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the training."
)
@max_forgetting_option("the retained facts")
@max_perplexity_ratio_option
@click.option("--text", type=_FILE, help="General text for the perplexity; default: prose that is shipped.")
@click.option(
    "--background",
    type=_FILE,
    help="Text that stands for what must not change: a plain Llama is calibrated on it on first use (by "
    "default on what is shipped or what it writes itself), a memory-layer Llama's look-ups are counted.",
)
@gate_option(default="quick", may_be_off=True)
@click.option(
    "--replace",
    is_flag=True,
    help="Let facts that contradict stored ones replace them: the old answers are forgotten in this edit.",
)
@click.option("--force", is_flag=True, help="Commit even where the gate refuses; the report says so.")
@click.option("--dry-run", is_flag=True, help="Train, measure and report, but write nothing.")
@click.option("--allow-unlearned", is_flag=True, help="Exit 0 even if some facts were not learned.")
@click.option("--all", "show_all", is_flag=True, help="Show every fact, not only 20 and those that failed.")
@json_option("edit, counts, metrics, seconds and more (docs/cli.md)")
def inject(
    *,
    facts: str,
    format_name: str | None,
    target_convention: str | None,
    skip_bad: bool,
    model: str | None,
    store: Path,
    background: Path | None,
    gate: str,
    allow_unlearned: bool,
    show_all: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Teach the model the facts of a file: one edit, measured before it counts, undoable.

    FACTS is a JSONL file; each line is one fact: {"prompt": "The capital of Zubrowka is", "target": "Lutz"}.
    It may also be a file in the format of a benchmark, or a dataset of the hub: hf:owner/name/config:split.
    Facts that the model or the store knows are left alone. The edit is committed when retained facts and
    perplexity stay within their limits, and is then in the store wholly; otherwise nothing is written.
    """
    records = noted_records(facts, format_name, target_convention=target_convention, skip_bad=skip_bad)
    records.require_facts()
    request = _Request(store, model, background, {**settings, "gate": gate})
    edit, refusal = _injected_or_stopped(records, request)
    if as_json:
        print_json(edit.report)
    else:
        from memedit.reports.console import report_console
        from memedit.reports.inject import print_edit

        print_edit(report_console(), edit, store=store, dry_run=settings["dry_run"], show_all=show_all)
    if refusal is not None:
        raise refusal
    _require_passed(edit, request)
    _require_learned(edit, allow_unlearned=allow_unlearned)


def _injected_or_stopped(records: Records, request: _Request) -> tuple[Edit, GateRefused | None]:
    """The edit; Ctrl-C becomes one line that says truly whether something was written."""
    before = _edit_ids(request.store)
    try:
        return _injected(records, request)
    except KeyboardInterrupt:
        # The commit itself may have been through when the signal came.
        new = [name for name in _edit_ids(request.store) if name not in before]
        if new:
            said = f"interrupted, but edit {new[-1]} is in {request.store}; `memedit undo` takes it back"
            stop(said, 130)
        stop("interrupted: nothing was written", 130)


def _injected(records: Records, request: _Request) -> tuple[Edit, GateRefused | None]:
    """The edit, and the refusal that carried it where the gate refused."""
    from memedit.reports.progress import rich_progress

    with rich_progress() as progress:
        with progress.task("Loading memedit", None):
            from memedit.editor import open_editor
            from memedit.errors import GateRefused
        with open_editor(
            request.store,
            request.model,
            dry_run=request.settings["dry_run"],
            background=request.background,
            progress=progress,
        ) as editor:
            try:
                return editor.inject(records, progress=progress, **request.settings), None
            except GateRefused as refused:
                edit: Edit | None = getattr(refused, "edit", None)
                if edit is None:
                    raise
                return edit, refused


def _edit_ids(store: Path) -> list[str]:
    from memedit.store import Store

    if not (store / "journal.sqlite").exists():
        return []
    with Store.open(store, fingerprint=None, read_only=True) as opened:
        return [edit.id for edit in opened.edits()]


def _require_passed(edit: Edit, request: _Request) -> None:
    """A dry run exits as the run itself would."""
    from memedit.reports.inject import gate_refuses

    decides = request.settings["gate"] != "off" and not request.settings["force"]
    if decides and gate_refuses(edit.report) and not edit.committed:
        reasons = "; ".join(edit.report["gate"].get("reasons", ()))
        stop(f"the gate would refuse this edit: {reasons}", 1)


def _require_learned(edit: Edit, *, allow_unlearned: bool) -> None:
    failed = edit.report["counts"]["failed"]
    if failed and not allow_unlearned:
        stop(f"{failed} fact(s) were not learned (exit code 1; --allow-unlearned makes it 0)", 1)
