"""Exporting: the model with its edits, or the edits alone, as a folder that stands on its own.

What: `export_model` and `export_delta`.
Why: what was taught must be usable without the store, and the store's folder is not what one hands on: it
holds what was undone and forgotten as well.
How: what counts now is read from the store once; the folder appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.editor.base_model import base_model
from memedit.editor.delta import write_delta
from memedit.editor.model_card import CardContent, model_card
from memedit.editor.overlays import composed_overlay, wearing
from memedit.errors import UsageError
from memedit.modeling.encoding import bos_ids
from memedit.modeling.new_folder import new_folder, require_new_folder
from memedit.modeling.opening import OpenedModel
from memedit.modeling.portable_folder import require_portable, save_portable
from memedit.progress import NULL_PROGRESS, Progress
from memedit.store import Store

CARD_FILE = "README.md"


@dataclass(frozen=True)
class Exported:
    """A folder that was written.

    Attributes:
        out: where it is.
        kind: "model" or "delta".
        base: what the base model is called.
        fingerprint: of the base model.
        edits: names of the active edits, whose sum it holds.
        num_facts: how many learned facts it holds.
        files: size of each file in bytes, by its path in the folder.
    """

    out: Path
    kind: str
    base: str
    fingerprint: str
    edits: tuple[str, ...]
    num_facts: int
    files: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "out": str(self.out),
            "kind": self.kind,
            "base_model": self.base,
            "fingerprint": self.fingerprint,
            "edits": list(self.edits),
            "num_facts": self.num_facts,
            "files": dict(self.files),
            "size_bytes": sum(self.files.values()),
        }


def export_model(
    opened: OpenedModel, store: Store, out: Path, *, progress: Progress = NULL_PROGRESS
) -> Exported:
    """Write the model with all active edits as a Hugging Face folder that needs no memedit.

    Args:
        opened: the base model.
        store: its edits.
        out: the folder, new or empty.
        progress: told of what takes time.

    Raises:
        UsageError: when `out` holds something or cannot be written, or the exported code would not know an
            option of the model.
        StoreError: when the store cannot be read.
    """
    require_new_folder(out)
    require_portable(opened.model.config)
    overlay = composed_overlay(opened.model, store.active_patches())
    card = _card(opened, store, is_delta=False)

    def fill(folder: Path) -> None:
        with wearing(opened.model, overlay):
            save_portable(opened.model, opened.tokenizer, folder)

    return _exported(out, "model", card, fill, progress)


def export_delta(
    opened: OpenedModel, store: Store, out: Path, *, progress: Progress = NULL_PROGRESS
) -> Exported:
    """Write the active edits alone, to be loaded onto the base model by `memedit.load_delta`.

    Args:
        opened: the base model.
        store: its edits.
        out: the folder, new or empty.
        progress: told of what takes time.

    Raises:
        UsageError: when `out` holds something or cannot be written, or no edit is active.
        StoreError: when the store cannot be read.
    """
    require_new_folder(out)
    card = _card(opened, store, is_delta=True)
    if not any(edit.active for edit in card.edits):
        raise UsageError(
            f"store {store.path} has no active edit to export",
            remedy="`memedit log` shows all edits; `memedit export OUT` without --delta writes the model.",
        )

    def fill(folder: Path) -> None:
        write_delta(opened.model, store, card.base, folder)

    return _exported(out, "delta", card, fill, progress)


def _card(opened: OpenedModel, store: Store, *, is_delta: bool) -> CardContent:
    edits = store.edits()
    begin = opened.tokenizer.decode(bos_ids(opened.tokenizer, opened.model.config))
    return CardContent(
        base_model(opened.name),
        store.fingerprint,
        edits,
        [stored.fact for stored in store.facts() if stored.outcome.get("status") == "learned"],
        {edit.id: store.measurements(edit.id) for edit in edits},
        str(begin),
        is_delta,
    )


def _exported(
    out: Path, kind: str, card: CardContent, fill: Callable[[Path], None], progress: Progress
) -> Exported:
    """Write a folder with its card, wholly or not at all."""
    with progress.task("Writing the folder", None), new_folder(out) as folder:
        fill(folder)
        (folder / CARD_FILE).write_text(model_card(card), encoding="utf-8")
        written = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in written}
    active = tuple(edit.id for edit in card.edits if edit.active)
    return Exported(out, kind, card.base.name, card.fingerprint, active, len(card.facts), files)
