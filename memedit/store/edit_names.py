"""The names of edits: made from their content, and found from what a user types.

What: `edit_id` makes a name such as "e0001-3f9a2c"; `find_edit` finds the edit for a name, a prefix or a
number.
Why: a user types `undo 1` or the first letters of a name; a wrong guess must change nothing and list what
there is.
How: the number keeps names apart and in order, the digits tell two stores' first edits apart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from memedit.errors import StoreError
from memedit.store.records import EditRecord, NewEdit, json_text

__all__ = ["edit_id", "find_edit", "number_in"]

_NUM_DIGITS = 6
_NUM_LISTED = 20
_NUMBER = re.compile(r"e?0*([1-9][0-9]*)")
_ID = re.compile(rf"e([0-9]{{4,}})-[0-9a-f]{{{_NUM_DIGITS}}}")


def edit_id(number: int, new: NewEdit, patch_sha256: str) -> str:
    """Return the name of an edit: the same facts, seed and patch give the same digits."""
    content = {"facts": [fact.to_json() for fact in new.facts], "seed": new.seed, "patch": patch_sha256}
    digest = hashlib.sha256(json_text(content, "facts").encode("utf-8")).hexdigest()
    return f"e{number:04d}-{digest[:_NUM_DIGITS]}"


def number_in(name: str) -> int | None:
    """Return the number in a whole edit name, None where it is not one."""
    match = _ID.fullmatch(name)
    return int(match.group(1)) if match else None


def find_edit(edits: Sequence[EditRecord], name: str) -> EditRecord:
    """Return the edit that a user means.

    Args:
        edits: All edits.
        name: A whole name, the beginning of one, or a number ("1", "e1").

    Raises:
        StoreError: Where no edit or more than one fits; it lists the names.
    """
    wanted = name.strip().lower()
    exact = [edit for edit in edits if edit.id == wanted]
    match = _NUMBER.fullmatch(wanted)
    by_number = [edit for edit in edits if match and edit.number == int(match.group(1))]
    by_prefix = [edit for edit in edits if wanted and edit.id.startswith(wanted)]
    found = exact or by_number or by_prefix
    if len(found) == 1:
        return found[0]
    if found:
        raise StoreError(
            f"edit {name!r} fits {len(found)} edits: {_listed(found)}",
            remedy="Give more of the name, or the number.",
        )
    raise StoreError(
        f"there is no edit {name!r}; known edits: {_listed(edits)}", remedy="`memedit log` shows all edits."
    )


def _listed(edits: Sequence[EditRecord]) -> str:
    if not edits:
        return "none"
    names = ", ".join(edit.id for edit in edits[-_NUM_LISTED:])
    return names if len(edits) <= _NUM_LISTED else f"{names} and {len(edits) - _NUM_LISTED} before them"
