"""Opening a model to ask it a suite: with the edits of a store, or without any where there is no store yet.

What: `editor_for_asking`, and the checks that need no model: `require_store`, `require_stores_model`.
Why: a suite is best made before the first edit, when there is no store; but a store that was named and is not
there is a mistake, which must not end in a test of the wrong model.
How: where the default store is missing, a note says so and the model is opened without edits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memedit.cli.options import was_given
from memedit.errors import UsageError

if TYPE_CHECKING:
    from memedit.editor import Editor
    from memedit.evaluation import Suite
    from memedit.progress import Progress

__all__ = ["editor_for_asking", "require_store", "require_stores_model"]


def require_store(store: Path, *, otherwise: str = "asking the model without edits") -> bool:
    """Return whether there is a store.

    Args:
        store: The value of --store.
        otherwise: What happens where there is none and none was named, for the note.
    Raises:
        UsageError: it is not there although the user named it.
    """
    if (store / "journal.sqlite").exists():
        return True
    if was_given("store"):
        raise UsageError(
            f"there is no store at {store}",
            remedy="Check --store, or leave it out to ask the model without edits.",
        )
    click.echo(f"note: there is no store at {store}: {otherwise}", err=True)
    return False


def require_stores_model(suite: Suite, store: Path) -> None:
    """Refuse a suite for another model than the store's before one is loaded.

    Args:
        suite: The suite.
        store: A store that is there.
    Raises:
        SuiteError: the suite was made for another model; the message has both names.
    """
    from memedit.store import Store

    with Store.open(store, fingerprint=None, read_only=True) as opened:
        names = [edit.report.get("model") for edit in opened.edits()]
        name = Path(names[-1]).name if names and names[-1] else f"of the store {store}"
        suite.require_model(name, opened.fingerprint)


@contextmanager
def editor_for_asking(
    store: Path, model: str | None, progress: Progress, *, keeps: bool = False
) -> Iterator[Editor]:
    """Open the editor for the length of a `with` block.

    Args:
        store: The value of --store; where there is none, the model has no edits.
        model: The value of --model.
        progress: Told of what takes time.
        keeps: Whether measurements of the base model are to be kept in the store's cache.
    """
    has_store = (store / "journal.sqlite").exists()
    with progress.task("Loading memedit", None):
        from memedit.editor import open_editor
    with open_editor(
        store, model, read_only=has_store and not keeps, dry_run=not has_store, progress=progress
    ) as editor:
        yield editor
