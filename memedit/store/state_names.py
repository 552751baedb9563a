"""The names of a model's states: without edits, as it is now, and as it was right after an edit.

What: `last_edit` finds the edit right after which a state was; `edit_of_both` the one that two names share.
Why: an edit has several names, so that two states that differ in name may be the same one; a comparison of a
state with itself finds no difference, whatever the edits did.
How: a state is known by the last edit that counts in it. Nothing here opens a model.
"""

from __future__ import annotations

from collections.abc import Sequence

from memedit.errors import UsageError
from memedit.store.edit_names import find_edit
from memedit.store.records import EditRecord

__all__ = ["BASE", "CURRENT", "edit_of_both", "last_edit"]

BASE, CURRENT = "base", "current"
"""The model without edits, and with all that count now."""


def last_edit(edits: Sequence[EditRecord], state: str) -> EditRecord | None:
    """Return the edit right after which the model was in a state; None where no edit counts in it.

    Args:
        edits: All edits, in journal order.
        state: `BASE`, `CURRENT`, or any name of an edit.

    Raises:
        StoreError: Where no edit or more than one has that name.
        UsageError: Where the edit is undone.
    """
    if state == BASE:
        return None
    if state == CURRENT:
        return next((edit for edit in reversed(edits) if not edit.undone), None)
    record = find_edit(edits, state)
    if record.undone:
        raise UsageError(
            f"edit {record.id} is undone", remedy=f"Bring it back first: memedit redo {record.id}"
        )
    return record


def edit_of_both(edits: Sequence[EditRecord], first: str, second: str) -> EditRecord | None:
    """Return the edit right after which both states were, None where they are not one state.

    Args:
        edits: All edits, in journal order.
        first: Names a state, as for `last_edit`.
        second: Names the other one.

    Raises:
        StoreError: Where no edit or more than one has such a name.
        UsageError: Where such an edit is undone.
    """
    one, other = last_edit(edits, first), last_edit(edits, second)
    return one if one is not None and other is not None and one.id == other.id else None
