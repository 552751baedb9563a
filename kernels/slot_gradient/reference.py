"""The gradient of selected rows in plain torch: hits sorted by row, then one weighted bag of tokens a row.

`embedding_bag` with the output gradient as its table sums each row's hits without gathering them first, one
thread a bag, in the bag's order: fast, and the same bits whatever the number of threads.
"""

import torch
from memedit_kernels.slot_gradient.pieces import sorted_hits
from torch import Tensor
from torch.nn import functional


def row_gradient_reference(grad_output: Tensor, rows: Tensor, weights: Tensor, num_rows: int) -> Tensor:
    """Sum weighted output gradients by row (row_gradient checks shapes).

    Args:
        grad_output: fp32, bf16, fp16 or fp64 [tokens, dim].
        rows: int64 [tokens, j]; -1 = counts nowhere.
        weights: fp32 or fp64 [tokens, j].
        num_rows: rows of the result.

    Returns:
        fp32 (fp64 where an argument is) [num_rows, dim].
    """
    double = torch.float64 in (grad_output.dtype, weights.dtype)
    dtype = torch.float64 if double else torch.float32
    hits = sorted_hits(rows, weights.to(dtype), num_rows)
    if len(hits.tokens) == 0 or grad_output.shape[1] == 0:
        return grad_output.new_zeros(num_rows, grad_output.shape[1], dtype=dtype)
    table = grad_output.detach().to(dtype).contiguous()
    pieces = _bags(hits.tokens, table, hits.piece_starts, hits.weights)
    if len(pieces) == num_rows:
        return pieces
    return _bags(torch.arange(len(pieces), device=rows.device), pieces, hits.row_pieces, None)


def _bags(indices: Tensor, table: Tensor, starts: Tensor, weights: Tensor | None) -> Tensor:
    return functional.embedding_bag(indices, table, starts, mode="sum", per_sample_weights=weights)
