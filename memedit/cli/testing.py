"""`memedit test`: does the model still know what it must know?

What: reads the suite, asks the model, shows what was lost, writes JUnit XML, chooses the exit code.
Why: a team's CI must fail when an edit cost knowledge, and must not fail on noise.
How: a thin layer over `Editor.test`; everything that is wrong with the suite or the options is said before a
model is loaded. The file is not called test.py, which tools take for a test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memedit.cli.options import (
    finite,
    json_option,
    model_option,
    print_json,
    require_folder_of,
    stop,
    store_option,
)
from memedit.errors import UsageError

if TYPE_CHECKING:
    from memedit.evaluation import Suite, SuiteResult

__all__ = ["test"]

_EPILOG = """\b
Examples:
  memedit test
  memedit test knowledge.toml --junit report.xml
  memedit test --max-loss 0 --json
  memedit test --update-baseline
\b
Exit codes: 0 passed; 1 more was lost than is allowed; 2 wrong usage, suite or environment.
"""


@dataclass(frozen=True)
class _Tested:
    """A result with what the report says beside it."""

    result: SuiteResult
    model: str
    edits: tuple[str, ...]
    renewed: Suite | None


@click.command(epilog=_EPILOG)
@click.argument("suite", required=False, type=click.Path(path_type=Path))
@store_option
@model_option
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 1),
    callback=lambda context, parameter, value: None if value is None else finite(context, parameter, value),
    help="Share of the right answers that may be lost; default: what the suite says, else 0.02.",
)
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a report that CI servers read.",
)
@click.option(
    "--update-baseline",
    is_flag=True,
    help="Make what the model answers now the suite's baseline, whatever was lost; exit 0.",
)
@click.option("--all", "show_all", is_flag=True, help="Show everything that was lost or gained, not only 20.")
@json_option("passed, reasons, overall, groups, lost, gained and more (docs/cli.md)")
def test(
    *,
    suite: Path | None,
    store: Path,
    model: str | None,
    max_loss: float | None,
    junit: Path | None,
    update_baseline: bool,
    show_all: bool,
    as_json: bool,
) -> None:
    """Ask the model everything in SUITE again, and compare with the baseline item by item.

    SUITE is a file from `memedit suite build`; without it, knowledge.toml in this folder, else what the store
    implies: what the model knew before its edits, and every fact learned since.
    """
    read = _suite_to_test(suite, store, update_baseline=update_baseline)
    require_folder_of(junit, "--junit")
    tested = _tested(read, store, model, max_loss, update_baseline=update_baseline)
    if junit is not None:
        _write_junit(junit, tested)
    if tested.renewed is not None:
        _write_baseline(tested.renewed)
    if as_json:
        print_json(_summary(tested, store))
    else:
        from memedit.reports.console import report_console
        from memedit.reports.suite import print_suite_result

        print_suite_result(report_console(), tested.result, model=tested.model, show_all=show_all)
    if tested.renewed is not None:
        known = sum(item.known_before for item in tested.renewed.items)
        stop(f"{tested.renewed.path}: baseline renewed, {known} of {len(tested.renewed.items)} items held", 0)
    if not tested.result.passed:
        stop(f"{len(tested.result.lost)} item(s) were lost, more than is allowed (exit code 1)", 1)


def _suite_to_test(path: Path | None, store: Path, *, update_baseline: bool) -> Suite | None:
    """The suite in the file; None for the one that the store implies."""
    from memedit.cli.asking import require_store, require_stores_model
    from memedit.evaluation import read_suite
    from memedit.evaluation.suite_files import DEFAULT_SUITE

    if path is None and Path(DEFAULT_SUITE).is_file():
        path = Path(DEFAULT_SUITE)
    if path is None and update_baseline:
        raise UsageError(
            f"--update-baseline needs a suite file, and there is no {DEFAULT_SUITE} here",
            remedy="Name one, or make one: memedit suite build",
        )
    suite = None if path is None else read_suite(path)
    has_store = require_store(store)
    if suite is None and not has_store:
        raise UsageError(
            f"there is nothing to test: no {DEFAULT_SUITE} in this folder, and no store at {store}",
            remedy="Name a suite, or make one of what the model knows: memedit suite build",
        )
    if suite is not None and has_store and not update_baseline:
        require_stores_model(suite, store)
    return suite


def _tested(
    suite: Suite | None, store: Path, model: str | None, max_loss: float | None, *, update_baseline: bool
) -> _Tested:
    from memedit.cli.asking import editor_for_asking
    from memedit.reports.progress import rich_progress

    if suite is not None and update_baseline:
        # Whoever renews the baseline may do so with another model.
        suite = replace(suite, fingerprint=None)
    if model is None and suite is not None and not (store / "journal.sqlite").exists():
        model = suite.model
    with (
        rich_progress() as progress,
        editor_for_asking(store, model, progress, keeps=suite is None) as editor,
    ):
        result = editor.test(suite, max_loss=max_loss, progress=progress)
        renewed = editor.renewed_suite(result) if update_baseline else None
        edits = tuple(edit.id for edit in editor.store.edits() if edit.active)
        return _Tested(result, editor.model_name, edits, renewed)


def _write_junit(path: Path, tested: _Tested) -> None:
    from memedit.reports.junit import junit_xml

    try:
        path.write_bytes(junit_xml(tested.result, model=tested.model, created=datetime.now(timezone.utc)))
    except OSError as error:
        raise UsageError(f"--junit {path} cannot be written: {error.strerror or error}") from error


def _write_baseline(suite: Suite) -> None:
    from memedit.evaluation.suite_files import write_baseline

    assert suite.path is not None
    write_baseline(suite.path, suite)


def _summary(tested: _Tested, store: Path) -> dict[str, Any]:
    path = tested.result.suite.path
    return {
        "suite": None if path is None else str(path),
        "store": str(store),
        "model": tested.model,
        "edits": list(tested.edits),
        "items": len(tested.result.items),
        **tested.result.to_json(),
        "baseline_updated": tested.renewed is not None,
    }
