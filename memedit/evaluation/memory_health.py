"""Health of the memory: how full the table is, who shares rows with whom, and how large they have grown.

What: `memory_health` over `WrittenRows`, one for each edit and value table.
Why: a memory that many edits fill loses facts by collisions long before it is full, and rows that grow beyond
what the model expects at that place disturb everything that hits them; both show before recall falls.
How: plain counting over arrays, so that it needs neither the store nor the model. Everything is counted, not
sampled: the ends of the interval are the value. Norms are of what is in the table, the sum of all deltas of a
slot (and its base row, where there is one).

Source: share of accessed slots and KL from uniform access: Lample et al. (2019), Large Memory Layers with
Product Keys, section 4.5; the rest is memedit's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.samples import Evaluation, Sample
from memedit.evaluation.statistics import Metric

__all__ = ["METRICS", "WrittenRows", "memory_health"]

_COUNTED = "counted over all value tables, not sampled"
_USAGE, _COLLISIONS, _TWICE = "slot_usage", "slot_collision_rate", "rows_written_twice"
_NORM, _RATIO = "written_row_norm", "written_row_norm_ratio"
_ACCESSED, _KL = "slot_access_share", "slot_access_kl"
_SLICE_ROWS = 65_536
# No command counts what a text reads.
_IN_PYTHON = " (in Python only: memory_health(..., accesses=...))"
_LAMPLE = "Lample et al. 2019, Large Memory Layers with Product Keys, section 4.5"


def _info(name: str, formula: str, source: str = "memedit", *, better: bool | None = False) -> MetricInfo:
    return MetricInfo(name, "health", formula, source, _COUNTED, better)


METRICS = (
    _info(_USAGE, "slots that any edit wrote / slots", better=None),
    _info(_COLLISIONS, "written slots that were written for two or more subjects / written slots"),
    _info(_TWICE, "written slots that two or more edits wrote / written slots"),
    _info(_NORM, "mean over written slots of the Euclidean norm of their row", better=None),
    _info(
        _RATIO,
        "mean norm of the written rows / mean norm of the base table's rows; without a base table, mean rms "
        "of the written rows / rms of the residual stream",
        better=None,
    ),
    _info(_ACCESSED, f"slots that a text reads at least once / slots{_IN_PYTHON}", _LAMPLE, better=True),
    _info(
        _KL,
        f"sum over slots of z log(z * slots) in nats, z = share of the text's accesses{_IN_PYTHON}",
        _LAMPLE,
    ),
)
"""The catalogue's entries."""


@dataclass(frozen=True, eq=False)
class WrittenRows:
    """The rows of one value table that one edit wrote.

    Args:
        edit: Name of the edit.
        slots: Integers [n]: which rows.
        deltas: Numbers [n, dim]: what was added to each; [u, dim] with `rows`.
        owners: [n]: the subject for which each was written, None where there is none.
        table: Which value table.
        rows: Integers [n]: which of the deltas each slot got; None = one for each slot, in their order.

    Raises:
        ValueError: These do not have equally many rows.
    """

    edit: str
    slots: Any
    deltas: Any
    owners: Sequence[str | None]
    table: int = 0
    rows: Any = None

    def __post_init__(self) -> None:
        given = self.deltas if self.rows is None else self.rows
        lengths = (len(self.slots), len(given), len(self.owners))
        if len(set(lengths)) > 1:
            raise ValueError(
                f"slots, deltas and owners of edit {self.edit!r} must have equally many rows, got {lengths}"
            )


def memory_health(
    edits: Iterable[WrittenRows],
    *,
    num_slots: Sequence[int],
    base_rows: Mapping[int, Any] | None = None,
    residual_rms: float | None = None,
    accesses: Mapping[int, Any] | None = None,
) -> Evaluation:
    """Measure the state of the value tables.

    Args:
        edits: What the active edits wrote, in any order; an edit with several tables has an entry for each.
        num_slots: Slots of each value table.
        base_rows: By table its base rows, [slots, dim]; None for a retrofit, whose base is empty.
        residual_rms: Root mean square of the residual stream at the memory layer, in the units of the rows;
            what a retrofit's rows are compared with.
        accesses: By table how often (or with what total weight) a text read each slot, [slots].
    Returns:
        slot_usage, slot_collision_rate, rows_written_twice and written_row_norm; written_row_norm_ratio where
        there is something to compare with, else a note; slot_access_share and slot_access_kl with `accesses`.
        The samples are the pairs of subjects that share slots, their value the number of shared slots.
    Raises:
        ValueError: a table or slot does not exist.
    """
    places = _places(edits, num_slots)
    written, total = len(places), sum(num_slots)
    collisions = {place: owners for place, hits in places.items() if len(owners := _owners(hits)) > 1}
    num_twice = sum(len({hit.rows.edit for hit in hits}) > 1 for hits in places.values())
    metrics = [
        _share(_USAGE, written, total, "written slots / slots"),
        _share(_COLLISIONS, len(collisions), written, "slots of two or more subjects / written slots"),
        _share(_TWICE, num_twice, written, "slots of two or more edits / written slots"),
    ]
    norms, notes = _norms(places, base_rows or {}, residual_rms)
    read = [] if accesses is None else _access_metrics(accesses, num_slots)
    return Evaluation((*metrics, *norms, *read), tuple(_pairs(collisions)), notes)


@dataclass(frozen=True)
class _Hit:
    """One slot that one edit wrote, and the row of its deltas that it got."""

    rows: WrittenRows
    index: int
    deltas: NDArray[Any]
    row: int


def _places(edits: Iterable[WrittenRows], num_slots: Sequence[int]) -> dict[tuple[int, int], list[_Hit]]:
    """What was written to each (table, slot)."""
    places: dict[tuple[int, int], list[_Hit]] = {}
    for rows in edits:
        slots, deltas = [int(slot) for slot in rows.slots], _array(rows.deltas)
        size = num_slots[rows.table] if 0 <= rows.table < len(num_slots) else 0
        wrong = [slot for slot in slots if not 0 <= slot < size]
        if wrong:
            raise ValueError(
                f"slots of edit {rows.edit!r} must lie below {size}, the slots of table {rows.table}, got "
                f"{wrong[0]}"
            )
        held = range(len(slots)) if rows.rows is None else [int(row) for row in rows.rows]
        for index, (slot, row) in enumerate(zip(slots, held, strict=True)):
            places.setdefault((rows.table, slot), []).append(_Hit(rows, index, deltas, row))
    return places


def _owners(hits: Iterable[_Hit]) -> list[str]:
    """The subjects for which a slot was written."""
    return sorted({owner for hit in hits if (owner := hit.rows.owners[hit.index]) is not None})


def _norms(
    places: Mapping[tuple[int, int], Sequence[_Hit]], base_rows: Mapping[int, Any], residual_rms: float | None
) -> tuple[list[Metric], tuple[str, ...]]:
    """The size of the written rows, and what it is compared with."""
    sizes, squares = [], []
    # Slots that hold the same rows have one size.
    known: dict[tuple[object, ...], tuple[float, float]] = {}
    for (table, slot), hits in places.items():
        base = slot if table in base_rows else None
        key = (table, base, *((id(hit.rows), hit.row) for hit in hits))
        if key not in known:
            row = np.sum([hit.deltas[hit.row] for hit in hits], axis=0, dtype=np.float64)
            if base is not None:
                row = row + _array(base_rows[table][base])
            known[key] = float(np.linalg.norm(row)), float(np.sqrt(np.mean(row**2)))
        size, square = known[key]
        sizes.append(size)
        squares.append(square)
    norm = _counted(_NORM, _mean(sizes), len(sizes), "mean Euclidean norm of the written rows")
    if base_rows:
        usual = _mean([size for table in base_rows.values() for size in _row_norms(table)])
        value = _mean(sizes) / usual if usual else math.nan
        how = "mean norm of the written rows / mean norm of the base table's rows"
        return [norm, _counted(_RATIO, value, len(sizes), how)], ()
    if residual_rms is None:
        return [norm], (f"{_RATIO} was not measured: no base table and no rms of the residual stream",)
    how = f"mean rms of the written rows / rms of the residual stream, {residual_rms:.4g}; no base table"
    return [norm, _counted(_RATIO, _mean(squares) / residual_rms, len(sizes), how)], ()


def _row_norms(table: Any) -> Iterable[float]:
    """The norm of every row, a slice at a time, since a table may be larger than what memory is left."""
    for start in range(0, len(table), _SLICE_ROWS):
        yield from np.linalg.norm(_array(table[start : start + _SLICE_ROWS]), axis=1).tolist()


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _access_metrics(accesses: Mapping[int, Any], num_slots: Sequence[int]) -> list[Metric]:
    counts = []
    for table, given in sorted(accesses.items()):
        read = _array(given)
        if not 0 <= table < len(num_slots) or len(read) != num_slots[table]:
            raise ValueError(
                f"accesses[{table}] must have one entry per slot of table {table}, got {len(read)}"
            )
        counts.append(read)
    flat = np.concatenate(counts) if counts else np.empty(0)
    total, size = flat.sum(), len(flat)
    share = flat[flat > 0] / total if total else np.empty(0)
    divergence = float((share * np.log(share * size)).sum()) if total else math.nan
    return [
        _counted(
            _ACCESSED, len(share) / size if size else math.nan, size, "slots read at least once / slots"
        ),
        _counted(_KL, divergence, size, "KL of the accesses from uniform, in nats; 0 = all slots alike"),
    ]


def _pairs(collisions: Mapping[tuple[int, int], Sequence[str]]) -> list[Sample]:
    """Each two subjects that share slots, those that share most first."""
    shared: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for place, owners in collisions.items():
        for pair in combinations(owners, 2):
            shared.setdefault(pair, []).append(place)
    return [
        Sample(
            _COLLISIONS,
            f"{first} | {second}",
            first,
            "",
            (),
            f"{first} and {second} share {len(places)} slots",
            float(len(places)),
            {"slots": [list(place) for place in sorted(places)]},
        )
        for (first, second), places in sorted(shared.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _share(name: str, part: int, whole: int, what: str) -> Metric:
    return _counted(name, part / whole if whole else math.nan, whole, what)


def _counted(name: str, value: float, n: int, what: str) -> Metric:
    return Metric(name, value, n, value, value, f"{what}; {_COUNTED}")


def _array(values: Any) -> NDArray[Any]:
    """Numbers as an array, of a tensor of any type on any device too."""
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values)
