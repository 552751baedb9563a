"""The gradient of selected rows in plain torch: hits sorted by row, then one weighted bag of tokens a row.

`embedding_bag` with the output gradient as its table sums each row's hits without gathering them first, one
thread a bag, in the bag's order: fast, and the same bits whatever the number of threads.
"""

import torch
from memedit_kernels.slot_gradient.plan import LongRows, RowPlan, check_plan, cut_long_rows, plan_row_gradient
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
    return _sums(grad_output, weights, plan_row_gradient(rows, num_rows))


def planned_row_gradient_reference(
    grad_output: Tensor, weights: Tensor, lookups: Tensor, starts: Tensor
) -> Tensor:
    """Do the same with the sorting done before: lookups and starts are those of a RowPlan."""
    plan = RowPlan(lookups, starts)
    check_plan(plan, weights.numel())
    return _sums(grad_output, weights, plan)


def sum_type(grad_output: Tensor, weights: Tensor) -> torch.dtype:
    """Type that the sums are made in and returned: fp64 where an argument is, else fp32."""
    return torch.float64 if torch.float64 in (grad_output.dtype, weights.dtype) else torch.float32


def _sums(grad_output: Tensor, weights: Tensor, plan: RowPlan) -> Tensor:
    dtype, num_rows, dim = sum_type(grad_output, weights), len(plan.starts) - 1, grad_output.shape[1]
    if len(plan.lookups) == 0 or dim == 0:
        return grad_output.new_zeros(num_rows, dim, dtype=dtype)
    table = grad_output.detach().to(dtype).contiguous()
    tokens = plan.lookups.div(weights.shape[1], rounding_mode="floor")
    factors = weights.detach().to(dtype).reshape(-1)[plan.lookups]
    long = cut_long_rows(plan.starts)
    if long is None:
        return _bags(tokens, table, plan.starts[:-1], factors)
    return _sums_with_long_rows(table, tokens, factors, plan.starts, long)


def _sums_with_long_rows(
    table: Tensor, tokens: Tensor, factors: Tensor, starts: Tensor, long: LongRows
) -> Tensor:
    """Sum the short rows at once, and the long rows piece by piece."""
    counts = starts.diff()
    is_long = torch.zeros_like(counts, dtype=torch.bool)
    is_long[long.rows] = True
    in_long = torch.repeat_interleave(is_long, counts)
    short_hits, long_hits = (~in_long).nonzero().squeeze(1), in_long.nonzero().squeeze(1)
    short_counts = counts.masked_fill(is_long, 0)
    sums = _bags(tokens[short_hits], table, short_counts.cumsum(0) - short_counts, factors[short_hits])
    lengths = long.ends - long.begins
    pieces = _bags(tokens[long_hits], table, lengths.cumsum(0) - lengths, factors[long_hits])
    order = torch.arange(len(pieces), device=pieces.device)
    sums[long.rows] = _bags(order, pieces, long.first_pieces[:-1], None)
    return sums


def _bags(indices: Tensor, table: Tensor, starts: Tensor, factors: Tensor | None) -> Tensor:
    return functional.embedding_bag(indices, table, starts, mode="sum", per_sample_weights=factors)
