"""What counts when later edits take something out of earlier ones.

What: `Standing` (the edits that a state is made of, and whose rows are left out of each), `standing_of`, what
is left of patches (`left_of`) and facts (`counting`, `marked`), and what undo, redo and commit must refuse.
Why: forgetting and compaction must be as exact and as undoable as teaching. So nothing is subtracted and no
file is rewritten: the journal says which rows do not count, and every sum is made afresh from the others.
How: an edit that is not undone withdraws one subject of an earlier edit, or all of it. One edit at a time
does so, and edits are taken back in an order that never leaves rows on a ground that is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from memedit.errors import StoreError
from memedit.store.patches import Patch, TablePatch
from memedit.store.records import EditRecord, StoredFact, Withdrawal

__all__ = [
    "Standing",
    "counting",
    "left_of",
    "marked",
    "require_redoable",
    "require_standing",
    "require_undoable",
    "standing_of",
]


FactsThatCount = Callable[[], Iterable[StoredFact]]


@dataclass(frozen=True)
class Standing:
    """The edits that a state of the model is made of.

    Args:
        edits: Those whose patches count, in journal order.
        withdrawals: Who withdraws what, of all edits that are not undone and belong to the state.
    """

    edits: tuple[EditRecord, ...]
    withdrawals: dict[Withdrawal, str] = field(default_factory=dict)

    def withdrawn_from(self, edit_id: str) -> frozenset[str]:
        """Return the subjects whose rows in an edit do not count."""
        return frozenset(
            each.subject for each in self.withdrawals if each.edit == edit_id and each.subject is not None
        )

    def withdrawing(self, edit_id: str, subject: str) -> str | None:
        """Return the edit that withdraws a subject's rows and facts from an edit, or None."""
        whole = self.withdrawals.get(Withdrawal(edit_id, None))
        return whole or self.withdrawals.get(Withdrawal(edit_id, subject))


def standing_of(
    edits: Sequence[EditRecord],
    *,
    without: Collection[int] = (),
    upto: int | None = None,
    also: Iterable[Withdrawal] = (),
) -> Standing:
    """Find what a state is made of.

    Args:
        edits: All edits, in journal order.
        without: Numbers of edits that are left out, as if they were undone.
        upto: The number of the last edit of the state; None = all.
        also: What is withdrawn besides, by an edit that is still to be made.
    """
    counted = [
        edit
        for edit in edits
        if not edit.undone and edit.number not in without and (upto is None or edit.number <= upto)
    ]
    withdrawals = {each: edit.id for edit in counted for each in edit.withdraws}
    withdrawals.update(dict.fromkeys(also, ""))
    kept = tuple(edit for edit in counted if Withdrawal(edit.id, None) not in withdrawals)
    return Standing(kept, withdrawals)


def left_of(patch: Patch, subjects: Collection[str]) -> Patch:
    """Return a patch without the rows that it wrote for some subjects."""
    if not any(owner.subject in subjects for owner in patch.owners):
        return patch
    kept = [index for index, owner in enumerate(patch.owners) if owner.subject not in subjects]
    # The entry past the end is where index -1 (UNGATED) lands: such rows stay as they are.
    places = np.full(len(patch.owners) + 1, -2, dtype=np.int64)
    places[kept], places[-1] = np.arange(len(kept)), -1
    tables = []
    for table in patch.tables:
        owners = places[table.owners]
        left = owners > -2
        tables.append(TablePatch(table.slots[left], table.delta, owners[left], table.rows[left]))
    return Patch(tuple(tables), tuple(patch.owners[index] for index in kept), patch.metadata)


def marked(stored: StoredFact, standing: Standing) -> StoredFact:
    """Return a fact of an edit with what a state makes of it: whether it counts, and who withdraws it."""
    by = standing.withdrawing(stored.edit_id, stored.fact.subject) if stored.active else None
    return replace(stored, active=stored.active and by is None, withdrawn_by=by)


def counting(facts: Iterable[StoredFact], standing: Standing) -> tuple[StoredFact, ...]:
    """Return the facts of the edits of a state that no edit of it withdraws."""
    there = {edit.id for edit in standing.edits}
    kept = (marked(each, standing) for each in facts if each.edit_id in there)
    return tuple(each for each in kept if each.active)


def require_standing(withdraws: Iterable[Withdrawal], standing: Standing, what: str) -> None:
    """Refuse to withdraw what is not there, or is withdrawn by another edit.

    Args:
        withdraws: What an edit takes out of earlier ones.
        standing: What the others make.
        what: Names the edit, for the message.

    Raises:
        StoreError: Where an edit is undone, or another one has taken out of it the same rows.
    """
    withdraws = tuple(withdraws)
    there = {edit.id for edit in standing.edits}
    # What an edit withdraws stays as it is where a third one takes in both it and what it withdraws from.
    taken_in = {each.edit for each in withdraws if each.subject is None}
    for each in withdraws:
        others = [
            by
            for held, by in standing.withdrawals.items()
            if held.edit == each.edit
            and (each.subject is None or held.subject in (each.subject, None))
            and by not in taken_in
        ]
        if others:
            raise StoreError(
                f"{what} rests on edit {each.edit}, out of which edit {others[0]} has taken facts since",
                remedy=f"Take that edit back first: memedit undo {others[0]}",
            )
        if each.edit not in there:
            raise StoreError(
                f"{what} rests on edit {each.edit}, which is undone",
                remedy=f"Bring that edit back first: memedit redo {each.edit}",
            )


def require_undoable(record: EditRecord, edits: Sequence[EditRecord], facts: FactsThatCount) -> None:
    """Refuse to take an edit back from under a later one.

    Args:
        record: The edit.
        edits: All edits.
        facts: Returns the facts that count; not asked where the edit withdraws no subject.

    Raises:
        StoreError: Where a later edit took something out of it, or teaches a subject that it withdrew.
    """
    # Newest first: what holds an edit whole came last, and is what has to be taken back first.
    for other in reversed(edits):
        if other.active and (
            record.merged_into == other.id or any(each.edit == record.id for each in other.withdraws)
        ):
            done = "holds all of it" if record.merged_into else "has taken facts out of it"
            raise StoreError(
                f"edit {record.id} cannot be taken back alone: edit {other.id} ({other.kind}) {done}",
                remedy=f"Take the later edit back first: memedit undo {other.id}",
            )
    _require_untaught(record, edits, facts)


def require_redoable(record: EditRecord, edits: Sequence[EditRecord], facts: FactsThatCount) -> None:
    """Refuse to bring an edit back where what it withdraws is not as it was.

    Args:
        record: The edit, undone.
        edits: All edits.
        facts: Returns the facts that count; not asked where the edit withdraws no subject.

    Raises:
        StoreError: Where an edit that it rests on is undone or changed, or a later edit teaches a subject
            that it withdraws.
    """
    require_standing(record.withdraws, standing_of(edits), f"edit {record.id} ({record.kind})")
    _require_untaught(record, edits, facts)


def _require_untaught(record: EditRecord, edits: Sequence[EditRecord], facts: FactsThatCount) -> None:
    subjects = {each.subject for each in record.withdraws} - {None}
    if not subjects:
        return
    numbers = {edit.id: edit.number for edit in edits}
    for stored in facts():
        if stored.fact.subject in subjects and numbers[stored.edit_id] > record.number:
            state = "brought back" if record.undone else "taken back"
            raise StoreError(
                f"edit {record.id} ({record.kind}) cannot be {state}: edit {stored.edit_id} has taught "
                f"{stored.fact.subject} since, on the rows that are there now",
                remedy=f"Take the later edit back first: memedit undo {stored.edit_id}",
            )
