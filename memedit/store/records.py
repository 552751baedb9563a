"""What goes into the store and what comes out of it, without the how.

What: `NewEdit` (to be committed), `EditRecord` (a committed edit), `Withdrawal` (what an edit takes out of an
earlier one), `StoredFact` (a fact of an edit), and the one way in which the store turns a value into JSON
text.
Why: the journal, the store and its users speak of the same things; none of these holds a database handle.
How: frozen dataclasses; `NewEdit` refuses parts that contradict each other before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from memedit.errors import StoreError
from memedit.facts.fact import Fact
from memedit.store.patches import Patch

__all__ = ["INJECT", "KINDS", "EditRecord", "Json", "NewEdit", "StoredFact", "Withdrawal", "json_text"]

Json = Mapping[str, Any]
"""An object that JSON can hold: strings, finite numbers, booleans, None, lists and objects."""

INJECT = "inject"
KINDS = (INJECT, "replace", "forget", "compact")
"""What an edit may be: facts taught, facts corrected, facts taken out, many edits made one."""


@dataclass(frozen=True)
class Withdrawal:
    """Rows of an earlier edit that do not count while the later one does; they stay on disk.

    Args:
        edit: The id of the earlier edit.
        subject: Whose rows and facts; None for everything that the edit wrote.
    """

    edit: str
    subject: str | None


@dataclass(frozen=True, eq=False)
class NewEdit:
    """An edit that is trained and measured, ready to be committed.

    Args:
        facts: The facts, ids unique; none only where the edit withdraws something.
        outcomes: One JSON object for each fact, in the same order: fact_id, status, text before and after.
        patch: What the edit adds to the value tables.
        report: What was measured, as a JSON object.
        seed: The seed that the edit was made with.
        created: When, as an ISO 8601 time.
        measurements: Further JSON objects to keep with the edit, one a row.
        kind: One of `KINDS`.
        withdraws: What it takes out of earlier edits, each once.

    Raises:
        ValueError: Where the parts contradict each other.
    """

    facts: tuple[Fact, ...]
    outcomes: tuple[Json, ...]
    patch: Patch
    report: Json
    seed: int
    created: str
    measurements: tuple[Json, ...] = ()
    kind: str = INJECT
    withdraws: tuple[Withdrawal, ...] = ()

    def __post_init__(self) -> None:
        for name in ("facts", "outcomes", "measurements", "withdraws"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if bool(self.withdraws) == (self.kind == INJECT) or len(set(self.withdraws)) < len(self.withdraws):
            raise ValueError(
                f"withdraws must name something, each once, unless kind is {INJECT!r}; "
                f"got {len(self.withdraws)} for {self.kind!r}"
            )
        if not self.facts and not self.withdraws:
            raise ValueError("an edit needs at least one fact, got none")
        if len(self.outcomes) != len(self.facts):
            raise ValueError(
                f"outcomes must be one for each of {len(self.facts)} facts, got {len(self.outcomes)}"
            )
        ids = [fact.id for fact in self.facts]
        if len(set(ids)) < len(ids):
            raise ValueError(
                f"facts must have unique ids, got twice: {sorted({i for i in ids if ids.count(i) > 1})}"
            )
        try:
            datetime.fromisoformat(self.created.replace("Z", "+00:00"))
        except ValueError as error:
            raise ValueError(f"created must be an ISO 8601 time, got {self.created!r}") from error


@dataclass(frozen=True)
class EditRecord:
    """A committed edit.

    Args:
        id: Its name, such as "e0001-3f9a2c": the number and six digits of its content's SHA-256.
        number: Its place in the journal, from 1.
        created: When it was made, ISO 8601.
        active: Whether its patch counts; False once it is undone, or merged into a later edit.
        seed: The seed that it was made with.
        num_facts: How many facts it holds.
        slots_written: How many rows it adds to, over all tables.
        patch_bytes: Size of its patch file.
        patch_sha256: SHA-256 of its patch file, in hex.
        report: What was measured, as the editor gave it.
        kind: One of `KINDS`.
        withdraws: What it takes out of earlier edits.
        merged_into: The id of the active edit that holds all that this one wrote, or None.
    """

    id: str
    number: int
    created: str
    active: bool
    seed: int
    num_facts: int
    slots_written: int
    patch_bytes: int
    patch_sha256: str
    report: Json
    kind: str = INJECT
    withdraws: tuple[Withdrawal, ...] = ()
    merged_into: str | None = None

    @property
    def undone(self) -> bool:
        """Whether it was taken back: neither its patch nor what it withdraws counts."""
        return not self.active and self.merged_into is None


@dataclass(frozen=True)
class StoredFact:
    """A fact as an edit holds it.

    Args:
        fact: The fact.
        outcome: What became of it, as the editor gave it.
        edit_id: The edit.
        active: Whether it counts: its edit does, and no later one withdraws the fact.
        withdrawn_by: The id of the edit that withdraws it, or None.
    """

    fact: Fact
    outcome: Json
    edit_id: str
    active: bool
    withdrawn_by: str | None = None


def json_text(value: object, what: str) -> str:
    """Return `value` as JSON text that is the same for equal values.

    Args:
        value: What to write.
        what: Its name, for the error.

    Returns:
        One line, keys sorted.

    Raises:
        StoreError: Where JSON cannot hold it: NaN, infinity, or an object of another kind.
    """
    try:
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"{what} cannot be kept as JSON: {error}",
            remedy="Pass strings, finite numbers, lists and objects only.",
        ) from error
    return text
