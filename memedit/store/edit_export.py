"""Export one edit as a file that another store of the same base model can take in.

What: `export_edit`.
Why: what one person taught must be usable by another, without sending a whole store.
How: an edit is carried as it counts: without facts that later edits took out. It must stand alone: where it
was trained on top of the rows or the subjects of an earlier edit, what is carried would not say what it said
there, so it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from memedit.errors import StoreError, UsageError
from memedit.store.compaction import TAUGHT_BY
from memedit.store.durable_file import disk_refused, write_durably
from memedit.store.edit_file import EDIT_SUFFIX, EditFile, encode_edit_file, some_of
from memedit.store.patches import Patch
from memedit.store.records import EditRecord, Json, StoredFact
from memedit.store.store import Store
from memedit.store.withdrawals import Standing, left_of

__all__ = ["CarriedEdit", "carried_patch", "export_edit"]

# What the metadata of a patch says of the store that it comes from.
_OF_STORE = ("kind", "withdraws")
# Keys of a report that list facts of the edit.
_NAMING_FACTS = ("not_learned", "leaked", "corrections", "taught_again")


@dataclass(frozen=True)
class CarriedEdit:
    """The file of an edit that was written.

    Args:
        path: Where it is.
        edit: The edit.
        num_facts: How many facts it holds.
        left_out: How many facts of the edit later edits took out, which it does not hold.
        fingerprint: Of the base model.
        num_bytes: Its size.
    """

    path: Path
    edit: EditRecord
    num_facts: int
    left_out: int
    fingerprint: str
    num_bytes: int


def export_edit(store: Store, name: str, out: Path) -> CarriedEdit:
    """Write an edit to a file that `import_edit` reads.

    Args:
        store: The store; nothing is written to it.
        name: Names the edit.
        out: The file to write, which is not there yet, or a folder that is, in which it gets the edit's name.

    Raises:
        UsageError: Where the file is there already, or its folder is not.
        StoreError: Where there is no such edit, or it does not stand alone.
    """
    edit = store.edit(name)
    path = out / f"{edit.id}{EDIT_SUFFIX}" if out.is_dir() else out
    _require_writable(path)
    facts = store.facts(edit.id)
    kept = [stored for stored in facts if stored.active]
    _require_carriable(edit, kept)
    standing = store.standing()
    patch = carried_patch(store, edit.id, standing)
    _require_alone(edit, patch, store, standing)
    carried = EditFile(
        patch=patch,
        facts=tuple(stored.fact for stored in kept),
        outcomes=tuple(_without(stored.outcome, TAUGHT_BY) for stored in kept),
        report=_carried_report(edit.report, whole=len(kept) == len(facts)),
        measurements=store.measurements(edit.id),
        seed=edit.seed,
        edit=edit.id,
        created=edit.created,
        kind=edit.kind,
    )
    payload = encode_edit_file(carried)
    with disk_refused(path):
        write_durably(path, payload)
    return CarriedEdit(path, edit, len(kept), len(facts) - len(kept), store.fingerprint, len(payload))


def carried_patch(store: Store, edit: str, standing: Standing) -> Patch:
    """Return what leaves the store of an edit's patch: what counts of it, and nothing about other edits.

    Args:
        store: The store.
        edit: The id of the edit.
        standing: What the edits that count make.
    """
    patch = left_of(store.patch(edit), standing.withdrawn_from(edit))
    # What an edit withdraws names subjects that were to be forgotten.
    return replace(
        patch, metadata={key: value for key, value in patch.metadata.items() if key not in _OF_STORE}
    )


def _require_carriable(edit: EditRecord, kept: Sequence[StoredFact]) -> None:
    if edit.merged_into is not None:
        raise StoreError(
            f"edit {edit.id} was merged into {edit.merged_into}",
            remedy=f"Export that one: memedit patch export {edit.merged_into} OUT",
        )
    if edit.undone:
        raise StoreError(f"edit {edit.id} is undone", remedy=f"Bring it back first: memedit redo {edit.id}")
    if not kept:
        raise StoreError(
            f"edit {edit.id} ({edit.kind}) holds no fact that could be carried",
            remedy="`memedit log` shows what each edit holds.",
        )


def _require_alone(edit: EditRecord, patch: Patch, store: Store, standing: Standing) -> None:
    """Refuse an edit that was trained on top of rows or subjects of an earlier one."""
    subjects = {owner.subject for owner in patch.owners}
    for other in standing.edits:
        if other.number >= edit.number:
            break
        below = carried_patch(store, other.id, standing)
        shared = [owner.subject for owner in below.owners if owner.subject in subjects]
        num_slots = sum(
            len(np.intersect1d(one.slots, two.slots, assume_unique=True))
            for one, two in zip(patch.tables, below.tables, strict=True)
        )
        if shared or num_slots:
            what = f"{num_slots} slot(s)" + (f" and the subject {some_of(shared)}" if shared else "")
            raise StoreError(
                f"edit {edit.id} does not stand alone: it was trained on top of edit {other.id}, with which "
                f"it shares {what}",
                remedy="Merge them first (memedit compact), then export the merged edit.",
            )


def _require_writable(path: Path) -> None:
    if path.exists():
        raise UsageError(f"OUT {path} is there already", remedy="Name another file, or remove it.")
    if path.suffix != EDIT_SUFFIX:
        raise UsageError(
            f"OUT must be a folder that is there, or a file whose name ends in {EDIT_SUFFIX}; got {path}"
        )
    if not path.parent.is_dir():
        raise UsageError(f"OUT {path}: there is no folder {path.parent}", remedy="Make it first.")


def _without(outcome: Json, key: str) -> dict[str, Any]:
    return {name: value for name, value in outcome.items() if name != key}


def _carried_report(report: Json, *, whole: bool) -> dict[str, Any]:
    """A report without folders of this machine, and without facts that were taken out since."""
    told, model, read = dict(report), report.get("model"), report.get("read")
    if isinstance(model, str) and Path(model).is_absolute():
        told["model"] = None
    if isinstance(read, Mapping) and isinstance(read.get("source"), str):
        told["read"] = {**read, "source": Path(read["source"]).name}
    return told if whole else {key: value for key, value in told.items() if key not in _NAMING_FACTS}
