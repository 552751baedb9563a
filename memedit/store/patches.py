"""What one edit changes: for each value table the slots it wrote, what it added to them, and for whom.

What: `TablePatch` (one table), `Owner` (one subject and its gate's threshold) and `Patch` (a whole edit).
Why: a patch is the unit that is stored, summed, switched off and shared; everything that reads one relies on
sorted unique slots, plain dtypes and finite values, so an instance that breaks these rules cannot be made.
How: frozen dataclasses over numpy arrays that check themselves; `patch_file` puts them on disk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["RESERVED_METADATA", "UNGATED", "Owner", "Patch", "TablePatch"]

UNGATED = -1
"""The owner index of a row that no subject owns: it counts at every token."""

RESERVED_METADATA = frozenset({"format", "format_version", "owners"})
"""Metadata keys that the file format itself writes."""


@dataclass(frozen=True)
class Owner:
    """A subject for which slots were written.

    Args:
        subject: The subject as the facts name it; equal strings are one owner across patches.
        threshold: Routing mass from which the ownership gate opens; kept as the nearest fp32 number.
        fact_ids: The facts about this subject that the patch teaches.
    """

    subject: str
    threshold: float
    fact_ids: tuple[str, ...] = ()

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


@dataclass(frozen=True, eq=False)
class TablePatch:
    """The rows of one value table that an edit (or a sum of edits) adds to.

    Args:
        slots: int64 [n], sorted, unique, not negative.
        delta: float32 [n, dim], finite.
        owners: int64 [n], an index into the owners of the patch, or `UNGATED`.

    Raises:
        ValueError: Where an array breaks these rules.
    """

    slots: NDArray[np.int64]
    delta: NDArray[np.float32]
    owners: NDArray[np.int64]

    def __post_init__(self) -> None:
        _require_array("slots", self.slots, np.int64, 1)
        _require_array("delta", self.delta, np.float32, 2)
        _require_array("owners", self.owners, np.int64, 1)
        rows = (len(self.slots), len(self.delta), len(self.owners))
        if len(set(rows)) > 1:
            raise ValueError(f"slots, delta and owners must have equally many rows, got {rows}")
        if self.delta.shape[1] < 1:
            raise ValueError(f"delta must be [n, dim] with dim >= 1, got shape {list(self.delta.shape)}")
        if len(self.slots) == 0:
            return
        if self.slots[0] < 0 or not np.all(self.slots[1:] > self.slots[:-1]):
            raise ValueError("slots must be sorted, unique and not negative")
        if self.owners.min() < UNGATED:
            raise ValueError(f"owners must be an index or {UNGATED}, got {int(self.owners.min())}")
        # max and min carry a NaN along, and need no boolean copy of the whole delta.
        if not (np.isfinite(self.delta.max()) and np.isfinite(self.delta.min())):
            raise ValueError("delta must be finite: it holds NaN or infinity")

    @property
    def num_slots(self) -> int:
        """How many rows the table gets."""
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
