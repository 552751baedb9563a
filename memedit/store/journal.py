"""The ordered record of edits, facts, patches and measurements.

What: `Journal`, which reads and writes the rows; it knows nothing of patch files or locks.
Why: an edit exists from the moment one SQLite transaction says so; everything else on disk follows from these
rows.
How: rows in, records out. Writes go through `transaction()`; reads see the last committed state and need no
lock.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from memedit.errors import MemeditError, StoreCorrupt
from memedit.facts.fact import Fact
from memedit.facts.rendering import wording_key
from memedit.store.connection import connect, translated
from memedit.store.durable_file import StepHook
from memedit.store.patches import Patch
from memedit.store.records import INJECT, EditRecord, Json, NewEdit, StoredFact, Withdrawal, json_text
from memedit.store.seals import require_unbroken_seals, seal_of

__all__ = ["Journal"]

_EDITS = """
    SELECT edits.number, edits.id, created, seed, report, undone_rank, num_slots, num_bytes, sha256,
        (SELECT count(*) FROM facts WHERE facts.edit = edits.number), operations.kind
    FROM edits JOIN patches ON patches.edit = edits.number
        LEFT JOIN operations ON operations.edit = edits.number ORDER BY edits.number"""
_WITHDRAWALS = """
    SELECT withdrawals.edit, edits.id, subject
    FROM withdrawals JOIN edits ON edits.number = withdrawals.source
    ORDER BY withdrawals.edit, source, subject"""
_FACTS = """
    SELECT fact, outcome, edits.id, edits.undone_rank IS NULL
    FROM facts JOIN edits ON edits.number = facts.edit WHERE {where} ORDER BY facts.edit, facts.position"""


class Journal:
    """The rows of one journal file.

    Args:
        path: The file; it exists.
        read_only: Never write.

    Raises:
        StoreError: Where it cannot be opened; see `connect`.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self.commit_in_doubt = False
        """Whether the last COMMIT failed, so that only a later look at the disk tells what it left there."""
        self._connection = connect(path, read_only=read_only)
        try:
            with translated(path):
                require_unbroken_seals(self._connection, path)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def transaction(self, on_step: StepHook) -> Iterator[None]:
        """Make everything inside true at once, or nothing of it.

        Args:
            on_step: Told "transaction-begun", "transaction-committed".

        Raises:
            StoreError: Where SQLite refuses; nothing was changed.
        """
        with translated(self.path):
            self.commit_in_doubt = False
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                on_step("transaction-begun")
                yield
                self.commit_in_doubt = True
                self._connection.execute("COMMIT")
                self.commit_in_doubt = False
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
        on_step("transaction-committed")

    def value(self, key: str) -> str | None:
        """Return a setting of the store, such as its fingerprint."""
        rows = self._rows("SELECT value FROM store WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def next_number(self) -> int:
        """Return the number that the next edit gets."""
        return int(self._rows("SELECT coalesce(max(number), 0) + 1 FROM edits")[0][0])

    def edits(self) -> tuple[EditRecord, ...]:
        """Return every edit, in the order of their commits."""
        withdraws: dict[int, list[Withdrawal]] = {}
        for number, source, subject in self._rows(_WITHDRAWALS):
            withdraws.setdefault(number, []).append(Withdrawal(source, subject))
        records = [self._edit_record(row, tuple(withdraws.get(row[0], ()))) for row in self._rows(_EDITS)]
        return _with_merged(records)

    def last_undone(self) -> int | None:
        """Return the number of the edit that was undone last and is undone still."""
        rows = self._rows(
            "SELECT number FROM edits WHERE undone_rank IS NOT NULL ORDER BY undone_rank DESC LIMIT 1"
        )
        return rows[0][0] if rows else None

    def patch_files(self) -> dict[int, str]:
        """Return the name of each edit's patch file, by the edit's number."""
        return dict(self._rows("SELECT edit, file FROM patches ORDER BY edit"))

    def patch_shape(self) -> tuple[int, int] | None:
        """Return (number of tables, width of a row) of the patches, None before the first."""
        rows = self._rows("SELECT num_tables, dim FROM patches ORDER BY edit LIMIT 1")
        return rows[0] if rows else None

    def facts(self, *, edit: int | None = None) -> tuple[StoredFact, ...]:
        """Return the facts of the edit with that number, or of all edits that are not undone, in order.

        What later edits withdraw is no concern of these rows: every fact of such an edit is active here.
        """
        if edit is None:
            return self._facts("edits.undone_rank IS NULL", ())
        return self._facts("edits.number = ?", (edit,))

    def find_fact(self, fact_id: str) -> tuple[StoredFact, ...]:
        """Return the facts with this id in edits that are not undone, in journal order."""
        return self._facts("edits.undone_rank IS NULL AND facts.fact_id = ?", (fact_id,))

    def find_prompt(self, prompt: str) -> tuple[StoredFact, ...]:
        """Return the facts with this prompt (case and spacing do not count), as `find_fact` does."""
        return self._facts("edits.undone_rank IS NULL AND facts.prompt = ?", (wording_key(prompt),))

    def measurements(self, edit: int) -> tuple[Json, ...]:
        """Return the measurements of the edit with that number, oldest first."""
        rows = self._rows("SELECT measurement FROM measurements WHERE edit = ? ORDER BY id", (edit,))
        return tuple(self._json(row[0]) for row in rows)

    def insert_edit(self, number: int, edit_id: str, new: NewEdit) -> None:
        """Add the row of an edit; inside a transaction."""
        row = (number, edit_id, new.created, new.seed, json_text(new.report, "report"))
        self._connection.execute(
            "INSERT INTO edits (number, id, created, seed, report) VALUES (?, ?, ?, ?, ?)", row
        )

    def insert_patch(self, number: int, patch: Patch, *, file: str, sha256: str, num_bytes: int) -> None:
        """Add the row of an edit's patch file; inside a transaction."""
        row = (number, file, sha256, num_bytes, patch.num_slots, len(patch.tables), patch.dim)
        self._connection.execute("INSERT INTO patches VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def insert_facts(self, number: int, new: NewEdit) -> None:
        """Add the facts of an edit with their outcomes; inside a transaction."""
        self._connection.executemany(
            "INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    number,
                    position,
                    fact.id,
                    wording_key(fact.prompt),
                    json_text(fact.to_json(), f"fact {fact.id!r}"),
                    json_text(outcome, f"outcome of fact {fact.id!r}"),
                )
                for position, (fact, outcome) in enumerate(zip(new.facts, new.outcomes, strict=True))
            ],
        )

    def insert_withdrawals(self, number: int, new: NewEdit) -> None:
        """Add what an edit takes out of earlier ones, where it does; inside a transaction."""
        if new.kind != INJECT:
            self._connection.execute("INSERT INTO operations VALUES (?, ?)", (number, new.kind))
        self._connection.executemany(
            "INSERT INTO withdrawals SELECT ?, number, ? FROM edits WHERE id = ?",
            [(number, each.subject, each.edit) for each in new.withdraws],
        )

    def seal_edit(self, number: int) -> None:
        """Put the checksum on the rows of an edit once they are all there; inside the same transaction."""
        row = (seal_of(self._connection, number), number)
        self._connection.execute("UPDATE edits SET seal = ? WHERE number = ?", row)

    def insert_measurements(self, number: int, measurements: Sequence[Json]) -> None:
        """Add measurements to an edit; inside a transaction."""
        rows = [(number, json_text(measurement, "measurement")) for measurement in measurements]
        self._connection.executemany("INSERT INTO measurements (edit, measurement) VALUES (?, ?)", rows)

    def mark_undone(self, number: int) -> None:
        """Make an edit inactive, as the one undone last; inside a transaction."""
        self._connection.execute(
            "UPDATE edits SET undone_rank = (SELECT coalesce(max(undone_rank), 0) + 1 FROM edits)"
            " WHERE number = ?",
            (number,),
        )

    def mark_active(self, number: int) -> None:
        """Make an edit active again, at its old place in the order; inside a transaction."""
        self._connection.execute("UPDATE edits SET undone_rank = NULL WHERE number = ?", (number,))

    def _rows(self, sql: str, values: tuple[object, ...] = ()) -> list[Any]:
        with translated(self.path):
            return self._connection.execute(sql, values).fetchall()

    def _facts(self, where: str, values: tuple[object, ...]) -> tuple[StoredFact, ...]:
        rows = self._rows(_FACTS.format(where=where), values)
        return tuple(
            StoredFact(self._fact(fact), self._json(outcome), edit_id, bool(active))
            for fact, outcome, edit_id, active in rows
        )

    def _fact(self, text: str) -> Fact:
        value = self._json(text)
        try:
            return Fact.from_json(value)
        except (MemeditError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(f"it holds a fact that cannot be read: {error}") from error

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (TypeError, ValueError) as error:
            raise self._damaged(f"it holds text that is not JSON: {error}") from error

    def _damaged(self, what: str) -> StoreCorrupt:
        return StoreCorrupt(
            f"journal {self.path} is damaged: {what}",
            remedy="Restore the store folder (journal.sqlite and patches/ together) from a backup.",
        )

    def _edit_record(self, row: tuple[Any, ...], withdraws: tuple[Withdrawal, ...]) -> EditRecord:
        number, edit_id, created, seed, report, undone_rank, num_slots, num_bytes, sha256, num_facts, kind = (
            row
        )
        return EditRecord(
            id=edit_id,
            number=number,
            created=created,
            active=undone_rank is None,
            seed=seed,
            num_facts=num_facts,
            slots_written=num_slots,
            patch_bytes=num_bytes,
            patch_sha256=sha256,
            report=self._json(report),
            kind=kind or INJECT,
            withdraws=withdraws,
        )


def _with_merged(records: Sequence[EditRecord]) -> tuple[EditRecord, ...]:
    """Mark the edits that later ones hold whole: newest first, so that chains end at the one that counts."""
    holder: dict[str, str] = {}
    found = []
    for record in reversed(records):
        into = holder.get(record.id)
        if record.active:
            whole = (each.edit for each in record.withdraws if each.subject is None)
            holder.update(dict.fromkeys(whole, into or record.id))
            record = replace(record, active=into is None, merged_into=into)
        found.append(record)
    return tuple(reversed(found))
