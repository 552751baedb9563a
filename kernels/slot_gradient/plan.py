"""Look-ups that hit, sorted by row; and long runs of one row cut into pieces: what both backends follow.

A row of up to PIECE look-ups is summed by one worker, in the order of its tokens (the sort is stable). A
longer row is summed in pieces of PIECE, and the pieces' sums are added in their order, so that one hot row
keeps nobody waiting. The result depends on the input alone.
"""

from typing import NamedTuple

import torch
from memedit_kernels.arguments import check_count, check_range, check_tensor
from torch import Tensor

PIECE = 256
"""Look-ups that one worker sums at most."""


class RowPlan(NamedTuple):
    """Which look-ups each row sums; it holds as long as the routing does.

    Attributes:
        lookups: int64 [hits], indices into the flattened look-ups, sorted by row, then by place.
        starts: int64 [num_rows + 1], where each row's look-ups begin in `lookups`, and the end of the last.
    """

    lookups: Tensor
    starts: Tensor


class LongRows(NamedTuple):
    """The rows of more than PIECE look-ups, cut.

    Attributes:
        rows: int64 [long rows].
        first_pieces: int64 [long rows + 1], each row's first piece, and the end of the last.
        begins: int64 [pieces], each piece's first look-up in RowPlan.lookups.
        ends: int64 [pieces], one past its last.
    """

    rows: Tensor
    first_pieces: Tensor
    begins: Tensor
    ends: Tensor


def plan_row_gradient(rows: Tensor, num_rows: int) -> RowPlan:
    """Sort the look-ups by row: row_gradient's first half, to be done once where the routing is fixed.

    Args:
        rows: int64 [tokens, j], in [0, num_rows); -1 = counts nowhere.
        num_rows: number of rows.

    Returns:
        The plan, for row_gradient's argument `plan`.

    Raises:
        ValueError: when types do not fit, num_rows is negative, or a row is below -1 or not below num_rows.
    """
    check_tensor("rows", rows, 2, (torch.int64,), "torch.int64 [tokens, j]")
    check_count("num_rows", num_rows, 0)
    check_range("rows", rows, num_rows, lowest=-1)
    flat = rows.reshape(-1)
    hits = (flat >= 0).nonzero().squeeze(1)
    found = flat[hits]
    if num_rows < 2**31:
        # Half the bytes to sort.
        found = found.int()
    found, order = found.sort(stable=True)
    starts = torch.zeros(num_rows + 1, dtype=torch.int64, device=rows.device)
    starts[1:] = torch.bincount(found, minlength=num_rows).cumsum(0)
    return RowPlan(hits[order], starts)


def check_plan(plan: RowPlan, num_lookups: int) -> None:
    """Check a plan's values against the look-ups that it is used with; its types and shapes are known to fit.

    Raises:
        ValueError: where it does not describe rows of look-ups among num_lookups.
    """
    steps = plan.starts.diff()
    ends = int(plan.starts[0]), int(plan.starts[-1])
    if ends != (0, len(plan.lookups)) or bool((steps < 0).any()):
        raise ValueError(
            f"plan: got starts from {ends[0]} to {ends[1]}, expected ascending from 0 to {len(plan.lookups)}"
        )
    if len(plan.lookups):
        low, high = (int(bound) for bound in torch.aminmax(plan.lookups))
        if low < 0 or high >= num_lookups:
            raise ValueError(f"plan: got look-ups {low} to {high}, expected 0 to {num_lookups - 1}")


def cut_long_rows(starts: Tensor) -> LongRows | None:
    """Cut rows of more than PIECE look-ups; None where there is no such row.

    Args:
        starts: int64 [num_rows + 1], as in RowPlan.
    """
    counts = starts.diff()
    rows = (counts > PIECE).nonzero().squeeze(1)
    if len(rows) == 0:
        return None
    num_pieces = (counts[rows] + (PIECE - 1)) // PIECE
    first_pieces = torch.zeros(len(rows) + 1, dtype=torch.int64, device=starts.device)
    first_pieces[1:] = num_pieces.cumsum(0)
    of_row = torch.repeat_interleave(num_pieces)
    number = torch.arange(len(of_row), device=starts.device) - first_pieces[of_row]
    begins = starts[rows[of_row]] + number * PIECE
    return LongRows(rows, first_pieces, begins, torch.minimum(begins + PIECE, starts[rows[of_row] + 1]))
