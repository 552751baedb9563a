"""A seal on every edit's rows: a checksum that tells a flipped byte in the journal from what was committed.

What: `seal_of` (the SHA-256 of an edit's rows) and `require_unbroken_seals`.
Why: SQLite finds damaged pages, not damaged text in a sound page; a target that lost a bit would be shown as
taught.
How: the rows of `edits`, `patches` and `facts` (and, where there are any, `operations` and `withdrawals`) are
hashed as JSON inside the commit, and again at every opening (some 50 ms for 10,000 facts). Whether an edit is
undone is not part of it, since that changes.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

from memedit.errors import StoreCorrupt

__all__ = ["require_unbroken_seals", "seal_of"]

_CONTENT = (
    "SELECT number, id, created, seed, report FROM edits WHERE number = ?",
    "SELECT * FROM patches WHERE edit = ?",
    "SELECT * FROM facts WHERE edit = ? ORDER BY position",
)
# Counted only where they have rows: a seal from before there were such tables still holds.
_FURTHER = (
    "SELECT kind FROM operations WHERE edit = ?",
    "SELECT source, subject FROM withdrawals WHERE edit = ? ORDER BY source, subject",
)


def seal_of(connection: sqlite3.Connection, number: int) -> str:
    """Return the SHA-256, in hex, of all rows that the commit of an edit wrote.

    Args:
        connection: The journal.
        number: The edit's number.
    """
    content = [connection.execute(query, (number,)).fetchall() for query in _CONTENT]
    further = [connection.execute(query, (number,)).fetchall() for query in _FURTHER]
    content += further if any(further) else []
    # A damaged cell may have become bytes, which JSON lacks: its repr gives another seal all the same.
    return hashlib.sha256(json.dumps(content, default=repr).encode("ascii")).hexdigest()


def require_unbroken_seals(connection: sqlite3.Connection, path: Path) -> None:
    """Compare the rows of every edit with their seal.

    Args:
        connection: The journal.
        path: Its file, for the message.

    Raises:
        StoreCorrupt: Where an edit's rows are not those that were committed.
    """
    for number, edit, seal in connection.execute("SELECT number, id, seal FROM edits").fetchall():
        found = seal_of(connection, number)
        if found != seal:
            raise StoreCorrupt(
                f"journal {path} is damaged: the rows of edit {edit!r} are not those that were committed "
                f"(expected SHA-256 {seal}, found {found})",
                remedy="Restore the store folder (journal.sqlite and patches/ together) from a backup.",
            )
