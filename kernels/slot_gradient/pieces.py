"""Look-ups that hit, sorted by row and cut into pieces of at most PIECE hits: the plan both backends follow.

A piece is summed by one worker in the order of its hits and a row's pieces are added in their order, so the
result depends on the input alone. The sort is stable: a row's hits keep the order of their tokens.

Long runs are cut so that one hot row keeps nobody waiting, as table backwards of recommenders do.
"""

from typing import NamedTuple

import torch
from memedit_kernels.arguments import check_range
from torch import Tensor

PIECE = 256
"""Hits in a piece, at most."""


class SortedHits(NamedTuple):
    """The look-ups with a row, sorted by row.

    Attributes:
        tokens: int64 [hits], the token of each.
        weights: [hits], the weight of each.
        piece_starts: int64 [pieces], each piece's first hit; a row without a hit has one, empty, piece.
        row_pieces: int64 [num_rows], each row's first piece.
    """

    tokens: Tensor
    weights: Tensor
    piece_starts: Tensor
    row_pieces: Tensor


def sorted_hits(rows: Tensor, weights: Tensor, num_rows: int) -> SortedHits:
    """Filter, sort and cut.

    Args:
        rows: int64 [tokens, j]; -1 = no hit.
        weights: [tokens, j].
        num_rows: number of rows.

    Raises:
        ValueError: where a row is below -1 or not below num_rows.
    """
    flat = rows.reshape(-1)
    if len(flat):
        low, high = (int(bound) for bound in torch.aminmax(flat))
        if low < -1 or high >= num_rows:
            raise ValueError(f"rows: got numbers in [{low}, {high}], expected -1 to {num_rows - 1}")
    hits = (flat >= 0).nonzero().squeeze(1)
    found, order = flat[hits].sort(stable=True)
    hits = hits[order]
    starts = torch.searchsorted(found, torch.arange(num_rows + 1, device=rows.device))
    pieces, row_pieces = _cut(starts)
    tokens = hits.div(max(rows.shape[1], 1), rounding_mode="floor")
    return SortedHits(tokens, weights.reshape(-1)[hits], pieces, row_pieces)


def _cut(starts: Tensor) -> tuple[Tensor, Tensor]:
    """First hit of each piece, and first piece of each row, from the first hit of each row (and the end)."""
    counts = starts.diff()
    num_pieces = (counts - 1).div(PIECE, rounding_mode="floor").clamp_(min=0) + 1
    row_pieces = num_pieces.cumsum(0) - num_pieces
    if int(num_pieces.max() if len(num_pieces) else 1) == 1:
        return starts[:-1], row_pieces
    of_row = torch.repeat_interleave(num_pieces)
    within = torch.arange(len(of_row), device=starts.device) - row_pieces[of_row]
    return starts[of_row] + within * PIECE, row_pieces
