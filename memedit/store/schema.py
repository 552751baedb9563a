"""The tables of the journal.

What: the version, the statements that make an empty journal, and those that bring an older one up to date.
Why: one place says what is on disk; docs/store.md describes it to people.
How: plain SQL that SQLite 3.31 understands. A change of any table raises `SCHEMA_VERSION` and adds to
`UPGRADES`; an upgrade only adds tables, so that what was sealed stays as it is.
"""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "SCHEMA", "SCHEMA_VERSION", "UPGRADES"]

SCHEMA_VERSION = 2
"""Kept in `PRAGMA user_version`; a journal with a higher one is refused."""

APPLICATION_ID = 0x6D656D65
"""Kept in `PRAGMA application_id` ("meme" in ASCII): tells a journal from any other SQLite file."""

UPGRADES: dict[int, tuple[str, ...]] = {
    1: (
        # Edits that only teach have no row here.
        """CREATE TABLE operations (
            edit INTEGER PRIMARY KEY REFERENCES edits(number),
            kind TEXT NOT NULL)""",
        # A subject of NULL stands for everything that the source wrote.
        """CREATE TABLE withdrawals (
            edit INTEGER NOT NULL REFERENCES edits(number),
            source INTEGER NOT NULL REFERENCES edits(number),
            subject TEXT,
            UNIQUE (edit, source, subject))""",
    ),
}
"""For each older version the statements that lead to the next one."""

SCHEMA = (
    "CREATE TABLE store (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # undone_rank is NULL while the edit is active; redo takes the highest one first.
    """CREATE TABLE edits (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        created TEXT NOT NULL,
        seed INTEGER NOT NULL,
        report TEXT NOT NULL,
        seal TEXT,
        undone_rank INTEGER UNIQUE)""",
    """CREATE TABLE patches (
        edit INTEGER PRIMARY KEY REFERENCES edits(number),
        file TEXT NOT NULL UNIQUE,
        sha256 TEXT NOT NULL,
        num_bytes INTEGER NOT NULL,
        num_slots INTEGER NOT NULL,
        num_tables INTEGER NOT NULL,
        dim INTEGER NOT NULL)""",
    """CREATE TABLE facts (
        edit INTEGER NOT NULL REFERENCES edits(number),
        position INTEGER NOT NULL,
        fact_id TEXT NOT NULL,
        prompt TEXT NOT NULL,
        fact TEXT NOT NULL,
        outcome TEXT NOT NULL,
        PRIMARY KEY (edit, position),
        UNIQUE (edit, fact_id))""",
    "CREATE INDEX facts_by_id ON facts (fact_id)",
    "CREATE INDEX facts_by_prompt ON facts (prompt)",
    """CREATE TABLE measurements (
        id INTEGER PRIMARY KEY,
        edit INTEGER NOT NULL REFERENCES edits(number),
        measurement TEXT NOT NULL)""",
    "CREATE INDEX measurements_by_edit ON measurements (edit)",
    *UPGRADES[1],
)
"""Statements that make an empty journal, in order."""
