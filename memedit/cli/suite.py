"""`memedit suite build`: a file that holds what the model knows now.

What: asks the model, writes knowledge.toml, says what is in it.
Why: `memedit test` and pytest need something to hold a later model against, which a team can commit.
How: a thin layer over `Editor.build_suite`; files are read and checked before torch is imported.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memedit.cli.datasets import dataset_options, noted_records
from memedit.cli.options import finite, json_option, model_option, print_json, stop, store_option
from memedit.errors import UsageError

if TYPE_CHECKING:
    from memedit.evaluation import BuiltSuite, Suite
    from memedit.facts.formats import Records

__all__ = ["suite"]

_EPILOG = """\b
Examples:
  memedit suite build
  memedit suite build --facts products.jsonl --collect group
  memedit suite build --add --facts more.jsonl
"""


@click.group(epilog="\b\nExample:\n  memedit suite build")
def suite() -> None:
    """Make suites: files that say what a model must keep knowing (docs/testing-knowledge.md)."""


@suite.command(epilog=_EPILOG)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("knowledge.toml"),
    show_default=True,
    help="The file to write; JSONL where its name ends in .jsonl.",
)
@store_option
@model_option
@click.option(
    "--facts",
    metavar="FILE",
    multiple=True,
    help="Facts or questions, as for evaluate; what the model answers right of them becomes a group of that "
    "name. May be repeated.",
)
@dataset_options
@click.option("--max-items", type=click.IntRange(min=1), help="Most items; by default all that is known.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the choice where there are more than --max-items.",
)
@click.option(
    "--collect",
    type=click.Choice(["fact", "group"]),
    default="fact",
    show_default=True,
    help="What pytest and JUnit count as one test.",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 1),
    callback=finite,
    default=0.02,
    show_default=True,
    help="Share of the right answers that may be lost.",
)
@click.option("--add", is_flag=True, help="Keep the suite that is there, and add what is new.")
@click.option("--force", is_flag=True, help="Replace the file that is there, with its baseline.")
@json_option("out, items, groups, unknown, model, edits")
def build(
    *,
    out: Path,
    store: Path,
    model: str | None,
    facts: tuple[str, ...],
    format_name: str | None,
    target_convention: str | None,
    skip_bad: bool,
    add: bool,
    force: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Make a suite of what the model knows now, with its answers as the baseline.

    It holds the bundled well-known facts that the model answers right, every fact that an active edit taught,
    and what the model answers right of the files given.
    """
    from memedit.cli.asking import require_store, require_stores_model

    present = _present(out, add=add, force=force)
    data = [
        noted_records(source, format_name, target_convention=target_convention, skip_bad=skip_bad)
        for source in facts
    ]
    if require_store(store) and present is not None:
        require_stores_model(present, store)
    built = _built(store, model, data, present, settings)
    if built is None:
        stop(f"{out} is unchanged: the model knows nothing that is not in it", 0)
    whole = _written(out, built, present)
    if as_json:
        print_json(_summary(out, built, whole))
        return
    from memedit.reports.console import report_console
    from memedit.reports.inject import next_command
    from memedit.reports.suite import print_built_suite

    again = next_command(store, "test", *([] if str(out) == "knowledge.toml" else [str(out)]))
    print_built_suite(report_console(), built, path=out, whole=whole, next_command=again)


def _present(out: Path, *, add: bool, force: bool) -> Suite | None:
    """The suite that is to be added to; an error where a file would be replaced unasked."""
    if add and force:
        raise UsageError("--add and --force exclude each other", remedy="Give one of them.")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}", remedy="Make it first.")
    if not out.exists() or force:
        return None
    if not add:
        raise UsageError(
            f"--out {out} exists already",
            remedy="--add keeps it and adds what is new; --force replaces it, and its baseline is lost.",
        )
    from memedit.evaluation import read_suite

    return read_suite(out)


def _built(
    store: Path, model: str | None, data: list[Records], present: Suite | None, settings: dict[str, Any]
) -> BuiltSuite | None:
    """The new suite; None where nothing is new to the one that is there."""
    from memedit.cli.asking import editor_for_asking
    from memedit.evaluation.suite_building import NothingKnown, SuiteSettings
    from memedit.reports.progress import rich_progress

    with rich_progress() as progress, editor_for_asking(store, model, progress) as editor:
        try:
            return editor.build_suite(
                data, present=present, settings=SuiteSettings(**settings), progress=progress
            )
        except NothingKnown:
            if present is None:
                raise
            return None


def _written(out: Path, built: BuiltSuite, present: Suite | None) -> Suite:
    from memedit.evaluation import write_suite
    from memedit.evaluation.suite_files import add_items

    if present is not None:
        return add_items(out, built.suite.items)
    write_suite(built.suite, out)
    return replace(built.suite, path=out)


def _summary(out: Path, built: BuiltSuite, whole: Suite) -> dict[str, Any]:
    kept = [item.group for item in built.suite.items]
    groups = [
        {"name": name, "asked": asked, "added": kept.count(name)} for name, asked in built.asked.items()
    ]
    unknown = [{"id": item.id, "prompt": item.prompt} for item in built.unknown]
    return {
        "out": str(out),
        "items": len(whole.items),
        "groups": groups,
        "unknown": unknown,
        "model": built.suite.model,
        "edits": list(built.suite.edits),
    }
