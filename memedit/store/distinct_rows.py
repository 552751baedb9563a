"""Rows that are equal, found to the bit: what lets a patch keep each of them once.

What: `distinct_rows` of a matrix, and `used_rows` of an index into one.
Why: an edit writes one vector to all slots of a subject; kept for each slot, it takes a hundred times the
room.
How: by the bytes of a row, so that 0.0 and -0.0 stay apart and what is put together again has the same bits.
Both number rows in the order of their first use, so that equal contents have one form.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["distinct_rows", "used_rows"]


def distinct_rows(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the rows that differ from each other in any bit.

    Args:
        values: float32 [n, dim].

    Returns:
        float32 [u, dim], each once, in the order in which they come first; and int64 [n], which of them each
        row is.
    """
    found: dict[bytes, int] = {}
    rows = np.fromiter(
        (found.setdefault(row.tobytes(), len(found)) for row in values), dtype=np.int64, count=len(values)
    )
    _, first = np.unique(rows, return_index=True)
    return values[first], rows


def used_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number what an index refers to anew, without gaps, in the order of first use.

    Args:
        rows: int64 [n].

    Returns:
        int64 [u], the numbers that occur; and int64 [n], the place of each of `rows` among them.
    """
    numbers, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return numbers[order], place[inverse]
