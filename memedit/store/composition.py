"""The sum of the active patches: what is added to the base value tables.

What: `compose` adds patches row by row in the order given and merges their owners.
Why: the model is always `base + sum of the active patches in journal order`; since every sum is made afresh,
undoing an edit leaves exactly what the others make, to the bit.
How: fp32 addition in that order; the first patch to write a slot sets it, later ones are added to it. Slots
to which every patch adds the same row are one group and are summed once, so that neither time nor memory goes
with the number of slots times the width. Owners with the same subject are one owner. A slot that two subjects
wrote stays with the first, and the conflict is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memedit.store.distinct_rows import used_rows
from memedit.store.patches import UNGATED, Owner, Patch, TablePatch

__all__ = ["Composition", "SlotConflict", "compose"]

_UNWRITTEN = UNGATED - 1


@dataclass(frozen=True)
class SlotConflict:
    """Slots that two subjects wrote: their deltas are summed, their owner is the first writer.

    Args:
        table: Index of the value table.
        kept: The subject that owns the slots, None for ungated rows.
        refused: The subject that wrote them later, None for ungated rows.
        slots: The slots, ascending.
    """

    table: int
    kept: str | None
    refused: str | None
    slots: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Composition:
    """The sum of some patches.

    Args:
        tables: For each value table the rows to add, `owners` indexing into the owners below.
        owners: Every owner of every patch, in order of first appearance, whether or not it kept a slot.
        conflicts: Slots that more than one subject wrote.
    """

    tables: tuple[TablePatch, ...]
    owners: tuple[Owner, ...]
    conflicts: tuple[SlotConflict, ...]


def compose(patches: Sequence[Patch], dim: int, num_tables: int) -> Composition:
    """Sum patches in fp32, in the order given.

    Args:
        patches: The active patches in journal order; may be empty.
        dim: The width of the model's value rows.
        num_tables: How many value tables the model has.

    Returns:
        The sum. Threshold and discriminant of an owner of several patches are those of the last, since the
        last edit was trained and measured on top of the others.

    Raises:
        ValueError: Where a patch is made for another number of tables or another width.
    """
    for index, patch in enumerate(patches):
        if len(patch.tables) != num_tables or patch.dim != dim:
            raise ValueError(
                f"patch {index} holds {len(patch.tables)} table(s) of width {patch.dim}, "
                f"the model has {num_tables} of width {dim}"
            )
    owners, index_maps = _merge_owners(patches)
    tables = []
    conflicts: list[SlotConflict] = []
    for number in range(num_tables):
        parts = [patch.tables[number] for patch in patches]
        table, disputed = _sum_table(parts, index_maps, dim)
        tables.append(table)
        conflicts.extend(_conflicts(number, disputed, owners))
    return Composition(tuple(tables), owners, tuple(conflicts))


def _merge_owners(patches: Sequence[Patch]) -> tuple[tuple[Owner, ...], list[NDArray[np.int64]]]:
    merged: dict[str, Owner] = {}
    position: dict[str, int] = {}
    index_maps = []
    for patch in patches:
        for owner in patch.owners:
            position.setdefault(owner.subject, len(position))
            known = merged.get(owner.subject)
            fact_ids = dict.fromkeys((*(known.fact_ids if known else ()), *owner.fact_ids))
            merged[owner.subject] = replace(owner, fact_ids=tuple(fact_ids))
        # The entry past the end is where index -1 (UNGATED) lands.
        indices = [*(position[owner.subject] for owner in patch.owners), UNGATED]
        index_maps.append(np.array(indices, dtype=np.int64))
    return tuple(merged.values()), index_maps


def _sum_table(
    parts: Sequence[TablePatch], index_maps: Sequence[NDArray[np.int64]], dim: int
) -> tuple[TablePatch, NDArray[np.int64]]:
    """Return one table's sum, and [m, 3] of (owner kept, owner refused, slot) where two patches disagree."""
    slots = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *(part.slots for part in parts)]))
    # Several times quicker than np.unique, which hashes where nothing but the numbers is asked for.
    slots = slots[np.diff(slots, prepend=-1) > 0]
    owners = np.full(len(slots), _UNWRITTEN, dtype=np.int64)
    groups = np.zeros(len(slots), dtype=np.int64)
    num_groups = 1
    disputed = [np.empty((0, 3), dtype=np.int64)]
    for part, index_map in zip(parts, index_maps, strict=True):
        places = np.searchsorted(slots, part.slots)
        fresh = owners[places] == _UNWRITTEN
        own = index_map[part.owners]
        owners[places[fresh]] = own[fresh]
        lost = owners[places] != own
        disputed.append(np.stack([owners[places[lost]], own[lost], part.slots[lost]], axis=1))
        # Slots stay together where they were together before and now get the same row.
        _, split = np.unique(groups[places] * len(part.delta) + part.rows, return_inverse=True)
        groups[places] = num_groups + split
        num_groups += len(part.slots)
    _, rows = used_rows(groups)
    _, first = np.unique(rows, return_index=True)
    table = TablePatch(slots, _sum_rows(parts, slots[first], dim), owners, rows)
    return table, np.unique(np.concatenate(disputed), axis=0)


def _sum_rows(parts: Sequence[TablePatch], slots: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
    """Return what all parts add to some slots (int64 [u], ascending), float32 [u, dim]."""
    # -0.0, since -0.0 + x is x to the bit for every x, so that one addition serves first and later writers.
    delta = np.full((len(slots), dim), -0.0, dtype=np.float32)
    for part in parts:
        _, places, at = np.intersect1d(slots, part.slots, assume_unique=True, return_indices=True)
        delta[places] += part.delta[part.rows[at]]
    return delta


def _conflicts(table: int, disputed: NDArray[np.int64], owners: tuple[Owner, ...]) -> list[SlotConflict]:
    slots: dict[tuple[int, int], list[int]] = {}
    for kept, refused, slot in disputed.tolist():
        slots.setdefault((kept, refused), []).append(slot)
    subjects = {index: owner.subject for index, owner in enumerate(owners)}
    return [
        SlotConflict(table, subjects.get(kept), subjects.get(refused), tuple(lost))
        for (kept, refused), lost in slots.items()
    ]
