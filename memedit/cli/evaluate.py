"""`memedit evaluate`: measure the model, an edit, or base against edited.

What: reads data, asks the editor, shows a table or JSON, writes the samples.
Why: every number that memedit knows is to be had of every state of the model, in one way.
How: a thin layer over `Editor.evaluate`; torch is imported with it, not before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memedit.cli.asking import require_store
from memedit.cli.datasets import dataset_options, noted_records
from memedit.cli.options import (
    json_option,
    model_option,
    print_json,
    require_folder_of,
    store_option,
    was_given,
)
from memedit.errors import UsageError

if TYPE_CHECKING:
    from memedit.evaluation.evaluated import Evaluated
    from memedit.facts.formats import Records

__all__ = ["evaluate"]

_FAMILIES = (
    "facts",
    "questions",
    "retained",
    "hallucination",
    "lifelong",
    "slick",
    "fluency",
    "perplexity",
    "health",
)
_EPILOG = """\b
Examples:
  memedit evaluate                                  base against the current model, on the injected facts
  memedit evaluate counterfact.json --limit 100
  memedit evaluate truthfulqa.csv --family questions
  memedit evaluate --on e0003 --against e0002
  memedit evaluate --family lifelong                what every edit left of the earlier ones
  memedit evaluate facts.jsonl --on base --against none
  memedit evaluate --lm-eval hellaswag --limit 100
  memedit evaluate --samples samples.jsonl --json > evaluation.json
  memedit evaluate --list
\b
Answers are kept with the store: an unchanged model is not asked twice, nor loaded to show a report again.
docs/evaluation.md, docs/retention.md and docs/hallucination.md say how everything is measured.
"""


@click.command(epilog=_EPILOG)
@click.argument("data", required=False)
@model_option
@store_option
@dataset_options
@click.option(
    "--family",
    "families",
    type=click.Choice(_FAMILIES),
    multiple=True,
    help="What to measure (repeatable); default: all but lifelong, slick and fluency, which take minutes.",
)
@click.option(
    "--on",
    default="current",
    show_default=True,
    metavar="STATE",
    help="The state that is measured: current, base, or an edit (the model right after it).",
)
@click.option(
    "--against",
    default="base",
    show_default=True,
    metavar="STATE",
    help="The state that it is compared with, side by side; none = no comparison.",
)
@click.option(
    "--lm-eval",
    "tasks",
    multiple=True,
    metavar="TASK",
    help="Run a task of lm-evaluation-harness too (repeatable; a name, or a YAML file); needs "
    "pip install 'memedit[lm-eval]'. Without --family only the tasks are run.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Use the first facts and questions only.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of samples.")
@click.option(
    "--text",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="General text for the perplexity; default: prose that is shipped.",
)
@click.option(
    "--samples",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write prompt, expected, before, after and verdict of every item to this JSONL file.",
)
@click.option("--fresh", is_flag=True, help="Do not show an evaluation that was made before; make it anew.")
@click.option("--list", "list_metrics", is_flag=True, help="Say what every metric is, and measure nothing.")
@json_option("states, differences, notes, data (docs/cli.md)")
def evaluate(
    *,
    data: str | None,
    format_name: str | None,
    target_convention: str | None,
    skip_bad: bool,
    model: str | None,
    store: Path,
    samples: Path | None,
    fresh: bool,
    list_metrics: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Measure what the model learned, kept, lost and makes up; by default what the edits changed.

    DATA is a facts file, or any dataset that inject and docs/facts.md know, or hf:name/config:split; without
    it the facts that the active edits injected are asked.
    """
    if list_metrics:
        _print_list(as_json=as_json)
        return
    require_folder_of(samples, "--samples")
    has_store = require_store(
        store, otherwise="measuring the model without edits, and its answers are not kept"
    )
    _require_two_states(asked["on"], asked["against"], store if has_store else None)
    records = None
    if data is not None:
        records = noted_records(data, format_name, target_convention=target_convention, skip_bad=skip_bad)
    found = _kept_or_measured(records, model, store, asked, fresh=fresh)
    if as_json:
        print_json({**found.to_json(), "data": records.counts() if records else None})
    else:
        _print_found(found)
    # What took minutes to measure is shown before anything can go wrong with a file.
    if samples is not None:
        _write_samples(samples, found)


def _require_two_states(on: str, against: str, store: Path | None) -> None:
    """Refuse a comparison of a state with itself; a note where nobody asked for the comparison."""
    if on == against and not was_given("against"):
        click.echo(f"note: {on} is compared with nothing", err=True)
        return
    got = f"got {on} twice" if on == against else _same_edit(on, against, store)
    if got is not None:
        raise UsageError(
            f"--on and --against name the same state, {got}",
            remedy="Name two states, or write --against none for one.",
        )


def _same_edit(on: str, against: str, store: Path | None) -> str | None:
    """What two names have in common that are of one state; None where they are not, or there is no store."""
    from memedit.store import BASE, Store, edit_of_both

    if store is None:
        return None
    with Store.open(store, fingerprint=None, read_only=True) as opened:
        # Without a comparison --on is still looked up: an unknown edit is said before a model is loaded.
        edit = edit_of_both(opened.edits(), on, BASE if against == "none" else against)
    return None if edit is None else f"got {on} and {against}: the model right after edit {edit.id}"


def _kept_or_measured(
    records: Records | None, model: str | None, store: Path, asked: dict[str, Any], *, fresh: bool
) -> Evaluated:
    """What was found before, where nothing that it rests on has changed; else what is found now."""
    from memedit.reports.kept_evaluation import evaluation_entry, kept_evaluation

    # What the harness reports is not kept.
    entry = None if asked["tasks"] else evaluation_entry(store, model, records, asked)
    kept = None if fresh or entry is None else kept_evaluation(store, entry)
    if kept is not None:
        click.echo("note: measured before, and nothing has changed since (--fresh measures anew)", err=True)
        return kept
    return _evaluated(records, model, store, asked, entry)


def _evaluated(
    records: Records | None, model: str | None, store: Path, asked: dict[str, Any], entry: str | None
) -> Evaluated:
    from memedit.reports.progress import rich_progress

    if asked["tasks"]:
        from memedit.evaluation.harness import require_harness

        require_harness()
    with rich_progress() as progress:
        with progress.task("Loading memedit", None):
            from memedit.editor import open_editor
            from memedit.editor.families import DEFAULT_FAMILIES
        # A store is made only by what is written to it; an evaluation of the base model needs none.
        with open_editor(store, model, dry_run=True, progress=progress) as editor:
            found = editor.evaluate(
                records,
                on=asked["on"],
                against=None if asked["against"] == "none" else asked["against"],
                families=asked["families"] or (() if asked["tasks"] else DEFAULT_FAMILIES),
                lm_eval=asked["tasks"],
                limit=asked["limit"],
                text=asked["text"],
                seed=asked["seed"],
                progress=progress,
            )
            if entry is not None:
                editor.store.write_cache(entry, found.to_kept())
            return found


def _print_found(found: Evaluated) -> None:
    from memedit.reports.console import report_console
    from memedit.reports.evaluation import print_evaluation, print_harness

    if not found.harness or any(state.metrics for state in found.states.values()):
        print_evaluation(report_console(), found.states, found.differences)
    if found.harness:
        print_harness(report_console(), found.harness, found.harness_differences)


def _write_samples(path: Path, found: Evaluated) -> None:
    from memedit.reports.evaluation import write_samples

    try:
        number = write_samples(path, found.states, found.differences, found.harness)
    except OSError as error:
        raise UsageError(
            f"--samples {path} cannot be written: {error.strerror or error}",
            remedy="Name a file in a folder that you may write to.",
        ) from error
    click.echo(f"{number:,} samples in {path}", err=True)


def _print_list(*, as_json: bool) -> None:
    from memedit.evaluation.catalogue import all_metrics

    if as_json:
        print_json({"metrics": [entry.to_json() for entry in all_metrics()]})
        return
    from memedit.reports.console import report_console
    from memedit.reports.evaluation import print_metric_list

    print_metric_list(report_console(), all_metrics())
