"""Take in an edit that was exported from another store of the same base model.

What: `import_edit`.
Why: an imported edit must answer as it did where it was made, and nothing that is here may change by it.
How: one transaction, like any edit: it gets the next number and can be undone. It is refused where the store
has it already, and where its facts, subjects or slots meet those that are there: the sum would be another one
than anybody trained and measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from memedit.errors import FingerprintMismatch, StoreCorrupt, StoreError, UsageError
from memedit.facts.conflicts import find_conflicts
from memedit.store.composition import SlotConflict, compose
from memedit.store.edit_file import EDIT_SUFFIX, EditFile, read_edit_file, some_of
from memedit.store.patch_file import encode_patch, sha256_of
from memedit.store.records import EditRecord, NewEdit
from memedit.store.store import Store

__all__ = ["IMPORTED", "import_edit"]

IMPORTED = "imported"
"""Key in the report of an edit that came from another store: its name there, when it was made, its kind."""

_MAX_CONFLICTS = 3


def import_edit(path: Path, root: Path) -> EditRecord:
    """Commit an edit from its file to a store, wholly or not at all.

    Args:
        path: The file, or a folder that holds one such file.
        root: The store; where there is none, it is made for the edit's base model.

    Returns:
        The edit as the journal holds it, active; its report says where it comes from.

    Raises:
        StoreCorrupt: Where the file is missing, changed, or not the file of an edit.
        FingerprintMismatch: Where it was made for another base model than the store's.
        StoreError: Where the edit is there already, or meets other edits' facts, subjects or slots.
    """
    path = _file_in(path)
    carried = read_edit_file(path)
    new = _new_edit(carried, path)
    with (
        Store.open(root, fingerprint=None if _is_store(root) else carried.fingerprint) as store,
        store.lock(),
    ):
        if carried.fingerprint != store.fingerprint:
            raise FingerprintMismatch(
                f"{path} was made for the model with fingerprint {carried.fingerprint}, store {root} belongs "
                f"to {store.fingerprint}",
                remedy="Import it into a store of that base model, or into a new one: --store NEW.",
            )
        _require_absent(carried, store)
        _require_no_meeting(carried, store)
        # The receiving store goes on with its own name for the model.
        named = store.recorded_model() or new.report.get("model")
        return store.commit(replace(new, report={**new.report, "model": named}))


def _new_edit(carried: EditFile, path: Path) -> NewEdit:
    came_from = {"edit": carried.edit, "created": carried.created, "kind": carried.kind}
    try:
        return NewEdit(
            facts=carried.facts,
            outcomes=carried.outcomes,
            patch=carried.patch,
            report={**carried.report, IMPORTED: came_from},
            seed=carried.seed,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            measurements=carried.measurements,
        )
    except ValueError as error:
        raise StoreCorrupt(
            f"{path} holds an edit that contradicts itself: {error}", remedy="Export the edit again."
        ) from error


def _require_absent(carried: EditFile, store: Store) -> None:
    """Refuse an edit that the store has, active or not."""
    sha256, wanted = sha256_of(encode_patch(carried.patch)), [fact.id for fact in carried.facts]
    for edit in store.edits():
        if edit.patch_sha256 != sha256 or [each.fact.id for each in store.facts(edit.id)] != wanted:
            continue
        how = (
            f"It is undone; bring it back: memedit redo {edit.id}"
            if edit.undone
            else "There is nothing to do."
        )
        raise StoreError(f"edit {carried.edit} is in store {store.path} already, as {edit.id}", remedy=how)


def _require_no_meeting(carried: EditFile, store: Store) -> None:
    """Refuse an edit whose facts, subjects or slots meet those of the store's active edits."""
    _require_no_conflict(carried, store)
    standing, new = store.standing(), carried.patch
    patches = store.active_patches()
    taught = {
        owner.subject: edit.id
        for edit, patch in zip(standing.edits, patches, strict=True)
        for owner in patch.owners
    }
    shared = [owner.subject for owner in new.owners if owner.subject in taught]
    if shared:
        edits = sorted({taught[subject] for subject in shared})
        raise StoreError(
            f"edit {carried.edit} teaches {some_of(shared)}, and so does edit {', '.join(edits)} in store "
            f"{store.path}: their rows would be added up, as nobody trained them",
            remedy=f"Take that edit back first (memedit undo {edits[0]}), or teach the facts by inject.",
        )
    # Patches of another shape are refused by the commit.
    if all((len(patch.tables), patch.dim) == (len(new.tables), new.dim) for patch in patches):
        before = compose(patches, new.dim, len(new.tables)).conflicts
        after = compose([*patches, new], new.dim, len(new.tables)).conflicts
        _require_no_slot_conflict(carried, store, [each for each in after if each not in before])


def _require_no_conflict(carried: EditFile, store: Store) -> None:
    stored = {each.fact.id: each for each in store.facts() if each.outcome.get("status") == "learned"}
    learned = [
        fact
        for fact, outcome in zip(carried.facts, carried.outcomes, strict=True)
        if outcome.get("status") == "learned"
    ]
    conflicts = find_conflicts(learned, [each.fact for each in stored.values()])
    if conflicts:
        told = "\n".join(conflict.message for conflict in conflicts[:_MAX_CONFLICTS])
        left = len(conflicts) - _MAX_CONFLICTS
        edit = stored[conflicts[0].stored.id].edit_id
        raise StoreError(
            f"edit {carried.edit} meets facts of store {store.path}:\n{told}"
            + (f"\nand {left} more" if left > 0 else ""),
            remedy=f"Take them out first: memedit undo {edit}, or memedit forget.",
        )


def _require_no_slot_conflict(carried: EditFile, store: Store, conflicts: Sequence[SlotConflict]) -> None:
    if not conflicts:
        return
    num_slots = sum(len(conflict.slots) for conflict in conflicts)
    owners = [conflict.kept or "rows without an owner" for conflict in conflicts]
    raise StoreError(
        f"edit {carried.edit} writes {num_slots} slot(s) that store {store.path} holds for "
        f"{some_of(owners)}: a slot has one owner",
        remedy="Teach its facts to this store with inject, which finds free slots; `memedit show` has them.",
    )


def _file_in(path: Path) -> Path:
    """The file itself, or the one in a folder."""
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{EDIT_SUFFIX}"))
    if len(found) != 1:
        raise UsageError(
            f"PATH {path} holds {len(found)} files that end in {EDIT_SUFFIX}, expected one",
            remedy="Name the file.",
        )
    return found[0]


def _is_store(root: Path) -> bool:
    return (root / "journal.sqlite").exists()
