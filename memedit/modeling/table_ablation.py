"""Taking the memory out of a model for a while: the base rows zeroed or shuffled, or the written rows off.

A table that answers do not depend on is dead weight, however well the model recalls: only taking it away
tells. Zeroed, nothing is copied: the table is put aside and a single row of zeros stands for all. Shuffled,
rows change places where they are, a few columns at a time, and go back the same way; moving is exact.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

from memedit.modeling.memory_table import MemoryTable
from memedit.modeling.model import MemoryLlamaForCausalLM

AblationKind = Literal["zeroed", "shuffled", "unwritten"]
# Moved at a time: a part of the table that fits beside it, but whole cache lines of each row.
_PART_BYTES, _LINE_BYTES = 1 << 26, 64


@contextmanager
def ablated(model: MemoryLlamaForCausalLM, kind: AblationKind, *, seed: int = 0) -> Iterator[None]:
    """Take the memory out of a model for the length of a `with` block; every bit is back after it.

    Nothing else may write to the tables meanwhile.

    Args:
        model: the model; its overlays stay on, but for "unwritten".
        kind: "zeroed": all base rows are 0; "shuffled": each slot has the base row of a random one;
            "unwritten": the overlays are off.
        seed: of the shuffle.

    Raises:
        ValueError: when there is no such kind.
    """
    if kind not in get_args(AblationKind):
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(get_args(AblationKind))}")
    generator = torch.Generator().manual_seed(seed)
    with ExitStack() as put_back:
        for index, table in enumerate(model.memory_tables()):
            if kind == "unwritten":
                put_back.enter_context(_unwritten(model, index))
            elif table.values is not None:
                order = torch.randperm(table.num_slots, generator=generator)
                put_back.enter_context(_zeroed(table) if kind == "zeroed" else _shuffled(table, order))
        yield


@contextmanager
def _unwritten(model: MemoryLlamaForCausalLM, table_index: int) -> Iterator[None]:
    written = model.overlay(table_index)
    try:
        model.set_overlay(table_index, None)
        yield
    finally:
        model.set_overlay(table_index, written)


@contextmanager
def _zeroed(table: MemoryTable) -> Iterator[None]:
    values = table.values
    assert values is not None
    rows = values.data
    try:
        values.data = rows.new_zeros(1, rows.shape[1]).expand_as(rows)
        yield
    finally:
        values.data = rows


@contextmanager
def _shuffled(table: MemoryTable, order: Tensor) -> Iterator[None]:
    assert table.values is not None
    moving = _MovingRows(table.values.data, order)
    try:
        moving.shuffle()
        yield
    finally:
        moving.put_back()


class _MovingRows:
    """Rows that change places, part by part, and know which parts have moved."""

    def __init__(self, rows: Tensor, order: Tensor) -> None:
        self._rows, self._order = rows, order.to(rows.device)
        row_bytes = max(_LINE_BYTES, _PART_BYTES // max(1, len(rows)))
        self._width = max(1, row_bytes // rows.element_size())
        self._moved: set[int] = set()

    def shuffle(self) -> None:
        """Give each place the row of another."""
        for start in range(0, self._rows.shape[1], self._width):
            self._move(start, self._order)

    def put_back(self) -> None:
        """Bring back what has moved; Ctrl-C waits until all has."""
        back = self._order.argsort()
        try:
            while self._moved:
                self._move(next(iter(self._moved)), back)
        except KeyboardInterrupt:
            self.put_back()
            raise

    def _move(self, start: int, order: Tensor) -> None:
        part = self._rows[:, start : start + self._width]
        rows = part.index_select(0, order)
        try:
            part.copy_(rows)
        finally:
            # Ctrl-C during the copy arrives right after it: the part has moved all the same.
            self._moved ^= {start}
