"""What one edit changes: for each value table the slots it wrote, what it added to them, and for whom.

What: `TablePatch` (one table), `Owner` (one subject and its gate's threshold) and `Patch` (a whole edit).
Why: a patch is the unit that is stored, summed, switched off and shared; everything that reads one relies on
sorted unique slots, plain dtypes and finite values, so an instance that breaks these rules cannot be made.
How: frozen dataclasses over numpy arrays that check themselves; `patch_file` puts them on disk. All slots of
a subject usually hold one vector, so a table keeps distinct rows and says for each slot which it holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from memedit.store.distinct_rows import distinct_rows, used_rows

__all__ = [
    "DISCRIMINANT_TYPE",
    "RESERVED_METADATA",
    "UNGATED",
    "Owner",
    "Patch",
    "TablePatch",
    "discriminants_of",
]

UNGATED = -1
"""The owner index of a row that no subject owns: it counts at every token."""

DISCRIMINANT_TYPE = np.dtype("<f2")
"""How an owner's discriminant is kept, in memory and on disk."""

RESERVED_METADATA = frozenset({"format", "format_version", "owners"})
"""Metadata keys that the file format itself writes."""


@dataclass(frozen=True)
class Owner:
    """A subject for which slots were written.

    Args:
        subject: The subject as the facts name it; equal strings are one owner across patches.
        threshold: Routing mass from which the ownership gate opens; kept as the nearest fp32 number.
        fact_ids: The facts about this subject that the patch teaches.
        discriminant: A direction in the space of the layer's queries and an offset, little-endian fp16: the
            subject's rows speak only on the positive side. Empty = the gate alone decides; zeros are made so.
    """

    subject: str
    threshold: float
    fact_ids: tuple[str, ...] = ()
    # As bytes: owners are compared and kept by the thousand, which tuples of floats would make heavy.
    discriminant: bytes = b""

    def __post_init__(self) -> None:
        # Rounded here, since the file holds fp32: an owner must be the same before and after the disk.
        with np.errstate(over="ignore"):
            rounded = float(np.float32(self.threshold))
        if not math.isfinite(rounded):
            raise ValueError(
                f"threshold of owner {self.subject!r} must be a finite number, got {self.threshold}"
            )
        object.__setattr__(self, "threshold", rounded)
        object.__setattr__(self, "fact_ids", tuple(self.fact_ids))
        if len(self.discriminant) % DISCRIMINANT_TYPE.itemsize or len(self.discriminant) == 2:
            raise ValueError(
                f"discriminant of owner {self.subject!r} must be fp16 numbers, a direction and an offset, "
                f"got {len(self.discriminant)} bytes"
            )
        numbers = np.frombuffer(self.discriminant, DISCRIMINANT_TYPE)
        if not np.isfinite(numbers).all():
            raise ValueError(f"discriminant of owner {self.subject!r} must be finite")
        if not numbers.any():
            object.__setattr__(self, "discriminant", b"")


@dataclass(frozen=True, eq=False)
class TablePatch:
    """The rows of one value table that an edit (or a sum of edits) adds to.

    Args:
        slots: int64 [n], sorted, unique, not negative.
        delta: float32 [u, dim], finite: the rows that the slots hold.
        owners: int64 [n], an index into the owners of the patch, or `UNGATED`.
        rows: int64 [n], the row of `delta` that each slot holds; None = a row for each slot, in their order.

    Raises:
        ValueError: Where an array breaks these rules.
    """

    slots: NDArray[np.int64]
    delta: NDArray[np.float32]
    owners: NDArray[np.int64]
    # Always an array once made: None is only how a caller says "one row for each slot".
    rows: NDArray[np.int64] = field(default=cast("NDArray[np.int64]", None))

    def __post_init__(self) -> None:
        _require_array("slots", self.slots, np.int64, 1)
        _require_array("delta", self.delta, np.float32, 2)
        _require_array("owners", self.owners, np.int64, 1)
        if cast("object", self.rows) is None:
            object.__setattr__(self, "rows", np.arange(len(self.delta)))
        _require_array("rows", self.rows, np.int64, 1)
        lengths = (len(self.slots), len(self.rows), len(self.owners))
        if len(set(lengths)) > 1:
            raise ValueError(f"slots, delta (or rows) and owners must have equally many rows, got {lengths}")
        if self.delta.shape[1] < 1:
            raise ValueError(f"delta must be [u, dim] with dim >= 1, got shape {list(self.delta.shape)}")
        self._require_values()

    def _require_values(self) -> None:
        if len(self.slots):
            if self.slots[0] < 0 or not np.all(self.slots[1:] > self.slots[:-1]):
                raise ValueError("slots must be sorted, unique and not negative")
            if self.owners.min() < UNGATED:
                raise ValueError(f"owners must be an index or {UNGATED}, got {int(self.owners.min())}")
            if self.rows.min() < 0 or self.rows.max() >= len(self.delta):
                raise ValueError(
                    f"rows must be an index of delta, which has {len(self.delta)}, "
                    f"got {int(self.rows.min())} to {int(self.rows.max())}"
                )
        # max and min carry a NaN along, and need no boolean copy of the whole delta.
        if len(self.delta) and not (np.isfinite(self.delta.max()) and np.isfinite(self.delta.min())):
            raise ValueError("delta must be finite: it holds NaN or infinity")

    def dense_delta(self) -> NDArray[np.float32]:
        """Return what is added to each slot, float32 [n, dim]: a copy that may be many times larger."""
        return self.delta[self.rows]

    def with_distinct_rows(self) -> TablePatch:
        """Return the same table in its one smallest form: rows that are used, each once, by first slot."""
        used, rows = used_rows(self.rows)
        delta, merged = distinct_rows(self.delta[used])
        return TablePatch(self.slots, delta, self.owners, merged[rows])

    def same_as(self, other: TablePatch) -> bool:
        """Whether another table adds the same to the same slots for the same owners, to the bit."""
        one, two = self.with_distinct_rows(), other.with_distinct_rows()
        return all(
            getattr(one, part).tobytes() == getattr(two, part).tobytes()
            for part in ("slots", "delta", "owners", "rows")
        )

    @property
    def num_slots(self) -> int:
        """How many slots the table has."""
        return len(self.slots)

    @property
    def dim(self) -> int:
        """The width of a row."""
        return int(self.delta.shape[1])


@dataclass(frozen=True, eq=False)
class Patch:
    """What one edit adds to the value tables of a model.

    Args:
        tables: One entry for each value table of the model, empty where the edit wrote nothing.
        owners: The subjects, each named once; `TablePatch.owners` indexes into them.
        metadata: Strings about how it was made: versions, settings. The store adds `fingerprint` and `seed`.

    Raises:
        ValueError: Where the parts contradict each other.
    """

    tables: tuple[TablePatch, ...]
    owners: tuple[Owner, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", tuple(self.tables))
        object.__setattr__(self, "owners", tuple(self.owners))
        if not self.tables:
            raise ValueError("a patch needs at least one table, got none")
        widths = sorted({table.dim for table in self.tables})
        if len(widths) > 1:
            raise ValueError(f"all tables of a patch must have one width, got {widths}")
        subjects = [owner.subject for owner in self.owners]
        if len(set(subjects)) < len(subjects):
            twice = sorted({subject for subject in subjects if subjects.count(subject) > 1})
            raise ValueError(f"owners must name each subject once, got twice: {twice}")
        discriminants_of(self.owners)
        for index, table in enumerate(self.tables):
            if table.num_slots and table.owners.max() >= len(self.owners):
                raise ValueError(
                    f"owners of table {index} must be below the number of owners, {len(self.owners)}, "
                    f"got {int(table.owners.max())}"
                )
        _require_metadata(self.metadata)

    @property
    def num_slots(self) -> int:
        """How many rows the patch writes, over all tables."""
        return sum(table.num_slots for table in self.tables)

    @property
    def dim(self) -> int:
        """The width of a row, the same in all tables."""
        return self.tables[0].dim


def discriminants_of(owners: Sequence[Owner]) -> NDArray[np.float16]:
    """Return the discriminants of some owners, float16 [owners, query_dim + 1], zeros for one without.

    [owners, 0] where nobody has one.

    Raises:
        ValueError: Where they have several widths.
    """
    sizes = {len(owner.discriminant) for owner in owners if owner.discriminant}
    if len(sizes) > 1:
        raise ValueError(f"discriminants of all owners must have one width, got {sorted(sizes)} bytes")
    num_bytes = max(sizes, default=0)
    whole = b"".join(owner.discriminant or bytes(num_bytes) for owner in owners)
    width = num_bytes // DISCRIMINANT_TYPE.itemsize
    return np.frombuffer(whole, DISCRIMINANT_TYPE).reshape(len(owners), width).astype(np.float16)


def _require_array(name: str, value: object, dtype: type[np.generic], num_dims: int) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != np.dtype(dtype) or value.ndim != num_dims:
        got = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(
            f"{name} must be a numpy array, {np.dtype(dtype)} with {num_dims} dimension(s), got {got}"
        )


def _require_metadata(metadata: Mapping[str, str]) -> None:
    others = {k: v for k, v in metadata.items() if not (isinstance(k, str) and isinstance(v, str))}
    if others:
        raise ValueError(f"metadata must map strings to strings, got {others}")
    reserved = sorted(RESERVED_METADATA & metadata.keys())
    if reserved:
        raise ValueError(f"metadata keys {reserved} belong to the file format, choose others")
