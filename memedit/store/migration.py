"""Journals that an older memedit wrote.

What: `migrate` brings one up to date; `stand_in` lets one be read as if it were, without writing to it.
Why: a store outlives the program that made it; and a store in a folder that cannot be written is still read.
How: one transaction that adds the tables that are missing. Nothing that is there is changed, so every seal
still holds. For reading, the missing tables are temporary ones of the connection.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from memedit.store.schema import SCHEMA_VERSION, UPGRADES

__all__ = ["migrate", "stand_in"]


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a journal up to date, wholly or not at all.

    Args:
        connection: A connection that may write, in autocommit mode.

    Raises:
        sqlite3.Error: Where the journal cannot be written; it is as it was.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again inside: another process may have been quicker.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for number in range(version, SCHEMA_VERSION):
            for statement in UPGRADES[number]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(version, SCHEMA_VERSION)}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def stand_in(connection: sqlite3.Connection, version: int) -> None:
    """Give a read-only connection empty temporary tables for those that its journal lacks.

    Args:
        connection: A connection that does not write to the journal.
        version: The schema version of the journal.
    """
    connection.execute("PRAGMA temp_store = MEMORY")
    for number in range(version, SCHEMA_VERSION):
        for statement in UPGRADES[number]:
            connection.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
