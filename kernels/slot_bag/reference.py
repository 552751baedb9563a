"""The weighted sum of value rows in plain torch: what the CPU runs and faster backends are compared with.

Most look-ups of an overlay hit no written row, so the misses are dropped before anything is read; the table
itself is never copied or converted. Tables in the weights' precision go through embedding_bag, whose backward
gives a gradient of the table's own (compact) size. Half-precision tables are read row by row and summed in
fp32.
"""

import torch
from torch import Tensor
from torch.nn import functional

# Elements of gathered half-precision rows held at a time (64 MB in fp32).
_CHUNK_ELEMENTS = 1 << 24


def slot_bag_reference(values: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Return sum_j weights[t, j] * values[rows[t, j]], rows of -1 left out (slot_bag checks arguments).

    Args:
        values: [rows, dim].
        rows: int64 [tokens, j], -1 = not present.
        weights: fp32 or fp64 [tokens, j].

    Returns:
        [tokens, dim] in the type of the weights.
    """
    present = rows >= 0
    counts = present.sum(dim=-1)
    hit_rows, hit_weights = rows[present], weights[present]
    if hit_rows.numel() == 0:
        # Kept in the autograd graph, so that a batch without a single hit still has a (zero) gradient.
        return (
            weights.new_zeros(rows.shape[0], values.shape[1])
            + 0.0 * hit_weights.sum()
            + 0.0 * values[:0].sum()
        )
    if values.dtype == weights.dtype:
        offsets = counts.cumsum(0) - counts
        return functional.embedding_bag(
            hit_rows, values, offsets, mode="sum", per_sample_weights=hit_weights.contiguous()
        )
    return _gathered_bag(values, hit_rows, hit_weights, counts)


def _gathered_bag(values: Tensor, hit_rows: Tensor, hit_weights: Tensor, counts: Tensor) -> Tensor:
    token_of = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    output = hit_weights.new_zeros(len(counts), values.shape[1])
    step = max(1, _CHUNK_ELEMENTS // max(1, values.shape[1]))
    for start in range(0, len(hit_rows), step):
        part = slice(start, start + step)
        read = values[hit_rows[part]].to(hit_weights.dtype) * hit_weights[part, None]
        output = output.index_add(0, token_of[part], read)
    return output
