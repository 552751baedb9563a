"""The gradient of selected rows in Triton: one program sums one row's look-ups (or a piece of a long row).

A tile of look-ups x columns is loaded at once, so that many rows of the output gradient are under way before
the first is needed. Long rows are cut into pieces that go to scratch, which a second kernel adds in order.
"""

import torch
import triton
import triton.language as tl
from memedit_kernels.addressing import row_start
from memedit_kernels.allocation import new_output
from memedit_kernels.slot_gradient.plan import PIECE, RowPlan, check_plan, cut_long_rows, plan_row_gradient
from memedit_kernels.slot_gradient.reference import sum_type
from torch import Tensor

NUM_WARPS = 4
# One warp: 8 fp32 a lane (4 on wavefronts of 64), two accesses of 128 bits.
COMBINE_BLOCK = 256
COMBINE_WARPS = 1


def block_sizes(dim: int) -> tuple[int, int]:
    """Look-ups and columns in a tile: 16 values a thread; narrow columns where wide ones overhang the row."""
    return (8, 256) if dim % 256 == 0 or dim > 2048 else (16, 128)


@triton.jit(
    do_not_specialize=["num_rows"],
    do_not_specialize_on_alignment=["weights_ptr", "lookups_ptr", "begins_ptr", "ends_ptr"],
)
def row_gradient_kernel(
    grad_ptr, weights_ptr, lookups_ptr, begins_ptr, ends_ptr, sums_ptr, scratch_ptr, num_rows,
    lookups_per_token, dim, PIECE: tl.constexpr, BLOCK_HITS: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """Program p < num_rows writes row p of sums; those after it write pieces to scratch."""
    program = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(begins_ptr + program), tl.load(ends_ptr + program)
    # A long row: its pieces come after the rows, and combine_pieces_kernel writes it.
    if end - begin > PIECE:
        return
    columns = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    inside = columns < dim
    # One sum for each line of the tile: the lines are added up once, after the loop, in a fixed order.
    sums = tl.zeros([BLOCK_HITS, BLOCK_DIM], sums_ptr.dtype.element_ty)
    for first in range(begin, end, BLOCK_HITS):
        hits = first + tl.arange(0, BLOCK_HITS)
        valid = hits < end
        lookups = tl.load(lookups_ptr + hits, mask=valid, other=0)
        weights = tl.load(weights_ptr + lookups, mask=valid, other=0.0).to(sums.dtype)
        places = row_start(lookups // lookups_per_token, dim)[:, None] + columns[None, :]
        grads = tl.load(grad_ptr + places, mask=valid[:, None] & inside[None, :], other=0.0).to(sums.dtype)
        sums += weights[:, None] * grads
    total = tl.sum(sums, axis=0)
    if program < num_rows:
        tl.store(sums_ptr + row_start(program, dim) + columns, total, mask=inside)
    else:
        tl.store(scratch_ptr + row_start(program - num_rows, dim) + columns, total, mask=inside)


@triton.jit
def combine_pieces_kernel(
    scratch_ptr, first_pieces_ptr, long_rows_ptr, sums_ptr, dim, BLOCK_DIM: tl.constexpr
):
    """Add a long row's pieces in their order."""
    program = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    inside = columns < dim
    total = tl.zeros([BLOCK_DIM], sums_ptr.dtype.element_ty)
    for piece in range(tl.load(first_pieces_ptr + program), tl.load(first_pieces_ptr + program + 1)):
        total += tl.load(scratch_ptr + row_start(piece, dim) + columns, mask=inside, other=0.0)
    row = tl.load(long_rows_ptr + program)
    tl.store(sums_ptr + row_start(row, dim) + columns, total, mask=inside)


def row_gradient_triton(grad_output: Tensor, rows: Tensor, weights: Tensor, num_rows: int) -> Tensor:
    """Sort, then run the kernels; arguments and result as in row_gradient."""
    return _sums(grad_output, weights, plan_row_gradient(rows, num_rows))


def planned_row_gradient_triton(
    grad_output: Tensor, weights: Tensor, lookups: Tensor, starts: Tensor
) -> Tensor:
    """Run the kernels on a plan's look-ups."""
    plan = RowPlan(lookups.contiguous(), starts.contiguous())
    check_plan(plan, weights.numel())
    return _sums(grad_output, weights, plan)


def _sums(grad_output: Tensor, weights: Tensor, plan: RowPlan) -> Tensor:
    num_rows, dim = len(plan.starts) - 1, grad_output.shape[1]
    dtype, device = sum_type(grad_output, weights), grad_output.device
    sums = new_output((num_rows, dim), dtype, device)
    if sums.numel() == 0:
        return sums
    begins, ends, scratch, long = plan.starts[:-1], plan.starts[1:], sums, cut_long_rows(plan.starts)
    if long is not None:
        begins, ends = torch.cat([begins, long.begins]), torch.cat([ends, long.ends])
        scratch = new_output((len(long.begins), dim), dtype, device)
    block_hits, block_dim = block_sizes(dim)
    row_gradient_kernel[(len(begins), triton.cdiv(dim, block_dim))](
        grad_output.contiguous(), weights.contiguous(), plan.lookups, begins, ends, sums, scratch, num_rows,
        weights.shape[1], dim, PIECE=PIECE, BLOCK_HITS=block_hits, BLOCK_DIM=block_dim, num_warps=NUM_WARPS,
    )  # fmt: skip
    if long is not None:
        combine_pieces_kernel[(len(long.rows), triton.cdiv(dim, COMBINE_BLOCK))](
            scratch, long.first_pieces, long.rows, sums, dim, BLOCK_DIM=COMBINE_BLOCK, num_warps=COMBINE_WARPS
        )
    return sums
