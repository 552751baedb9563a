"""Opening an editor: which model and which store, found out from what the user names."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from memedit.editing.routing_trials import choose_routing
from memedit.editor.session import Editor
from memedit.modeling import model_fingerprint
from memedit.modeling.opening import open_model
from memedit.progress import NULL_PROGRESS, Progress
from memedit.store import Store

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_STORE = ".memedit"


def open_editor(
    store: str | os.PathLike[str] = DEFAULT_STORE,
    model: str | None = None,
    *,
    read_only: bool = False,
    dry_run: bool = False,
    background: str | os.PathLike[str] | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Editor:
    """Open a model together with the store of its edits.

    Args:
        store: the store's folder; made on first use.
        model: a named model, a local folder or a hub id; None = the one that the store's edits were made
            with, else smollm2-135m.
        read_only: never write; the store must be there.
        dry_run: make no store: where there is none, one in a temporary folder stands in until close().
        background: background text for a model that has to be calibrated first.
        progress: told of downloads, calibration, loading.

    Returns:
        The editor, the active edits composed into its model.

    Raises:
        MemeditError: when the model or the store cannot be used; the message says why and what to do.
    """
    named = model or _recorded_model(Path(store)) or DEFAULT_MODEL
    opened = open_model(named, background=background, choose=choose_routing, progress=progress)
    with ExitStack() as closing:
        folder = Path(store)
        if dry_run and not _holds_store(folder):
            folder = Path(closing.enter_context(TemporaryDirectory(prefix="memedit-")))
        fingerprint = model_fingerprint(opened.model)
        journal = closing.enter_context(Store.open(folder, fingerprint=fingerprint, read_only=read_only))
        return Editor(opened, journal, closing)


def _recorded_model(store: Path) -> str | None:
    """The model that the newest edit was made with, if the store has any."""
    if not _holds_store(store):
        return None
    with Store.open(store, fingerprint=None, read_only=True) as journal:
        return journal.recorded_model()


def _holds_store(folder: Path) -> bool:
    return (folder / "journal.sqlite").exists()
