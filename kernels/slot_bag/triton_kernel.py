"""The weighted sum of value rows in Triton, with the ownership gate inside.

One program makes one piece of one token's bag. A tile of look-ups x columns is loaded at once, so that many
rows are under way before the first is needed; its lines are added up once, at the end. Most tokens hit no
written row, and for them the overlay costs one look at their rows. The gate sums an owner's weights in the
order of the look-ups, as the reference does, so that the same gates open on every backend.
"""

import torch
import triton
import triton.language as tl
from memedit_kernels.addressing import row_start
from memedit_kernels.allocation import new_output
from memedit_kernels.slot_bag.gate import NOT_WRITTEN, UNGATED, gate_gradient, owners_of_rows
from memedit_kernels.slot_bag.overlay import check_values
from memedit_kernels.slot_bag.reference import slot_bag_reference
from memedit_kernels.slot_rows.triton_kernel import slot_rows_triton
from torch import Tensor

NUM_WARPS = 4
TILE_BYTES = 8192
# Look-ups whose owners' masses are summed side by side. With 64 or 128 some variants spill on sm_100.
GATE_BLOCK = 256
# Owner codes in the kernels; a token at which no gate is open has the speaker NOBODY, which owns no row.
_UNGATED, _NOT_WRITTEN, _NOBODY = (
    tl.constexpr(UNGATED),
    tl.constexpr(NOT_WRITTEN),
    tl.constexpr(NOT_WRITTEN - 1),
)
_NO_OWNER_YET = tl.constexpr(2**62)


def block_sizes(dim: int, element_size: int) -> tuple[int, int]:
    """Look-ups and columns in a tile: four 128-bit loads a thread; narrow where wide columns overhang."""
    columns = 256 if dim % 256 == 0 or dim > 2048 else 128
    return TILE_BYTES // (columns * element_size), columns


@triton.jit
def weighted_rows(table_ptr, rows, stride, weights, valid, columns, inside):
    """weights[j] * table[rows[j], columns] for the valid look-ups of a tile, in the weights' type."""
    places = row_start(rows, stride)[:, None] + columns[None, :]
    read = tl.load(table_ptr + places, mask=valid[:, None] & inside[None, :], other=0.0)
    return weights[:, None] * read.to(weights.dtype)


@triton.jit
def count_hits(rows_ptr, num_lookups, BLOCK: tl.constexpr):
    """How many of a token's look-ups hit a written row."""
    hits = tl.zeros([BLOCK], tl.int32)
    for first in range(0, num_lookups, BLOCK):
        at = first + tl.arange(0, BLOCK)
        hits += (tl.load(rows_ptr + at, mask=at < num_lookups, other=-1) >= 0).to(tl.int32)
    return tl.sum(hits, axis=0)


@triton.jit
def divided(dividend, divisor):
    """Division rounded to nearest, as torch divides; Triton's own is approximate in fp32."""
    if dividend.dtype == tl.float32:
        return tl.div_rn(dividend, divisor)
    else:
        return dividend / divisor


@triton.jit
def speaking_owner(
    weights_ptr, rows_ptr, owners_ptr, thresholds_ptr, num_lookups, heads, BLOCK: tl.constexpr
):
    """The owner whose gate is open at a token and the sum of its weights, or NOBODY and 1."""
    dtype = weights_ptr.dtype.element_ty
    best, speaker = tl.cast(0.0, dtype), tl.cast(_NO_OWNER_YET, tl.int64)
    for first in range(0, num_lookups, BLOCK):
        at = first + tl.arange(0, BLOCK)
        rows = tl.load(rows_ptr + at, mask=at < num_lookups, other=-1)
        owners = tl.load(owners_ptr + rows, mask=rows >= 0, other=_NOT_WRITTEN)
        if tl.max(owners, axis=0) >= 0:
            # Each lane sums the weights of its look-up's owner.
            sums = tl.zeros([BLOCK], dtype)
            for lookup in range(num_lookups):
                row = tl.load(rows_ptr + lookup)
                owner = tl.load(owners_ptr + row, mask=row >= 0, other=_NOT_WRITTEN)
                sums += tl.where(owners == owner, tl.load(weights_ptr + lookup), 0.0)
            sums = tl.where(owners >= 0, sums, 0.0)
            top = tl.max(sums, axis=0)
            lowest = tl.min(tl.where((owners >= 0) & (sums == top), owners, _NO_OWNER_YET), axis=0)
            lowest = tl.where(top == best, tl.minimum(lowest, speaker), lowest)
            speaker = tl.where(top >= best, lowest, speaker)
            best = tl.maximum(top, best)
    threshold = tl.load(thresholds_ptr + speaker, mask=best > 0, other=0.0).to(dtype)
    is_open = (best > 0) & (divided(best, tl.cast(heads, dtype)) >= threshold)
    return tl.where(is_open, speaker, _NOBODY), tl.where(is_open, best, 1.0)


@triton.jit
def gated_weights(weights, rows, owners_ptr, speaker, total):
    """What the gate makes of some look-ups' weights."""
    owners = tl.load(owners_ptr + rows, mask=rows >= 0, other=_NOT_WRITTEN)
    plain = tl.where(owners == _UNGATED, weights, 0.0)
    return tl.where(owners == speaker, divided(weights, total), plain)


@triton.jit(
    do_not_specialize=["num_lookups", "heads"],
    do_not_specialize_on_alignment=[
        "slots_ptr", "weights_ptr", "rows_ptr", "owners_ptr", "thresholds_ptr", "gated_ptr",
    ],
)  # fmt: skip
def slot_bag_kernel(
    slots_ptr, weights_ptr, base_ptr, rows_ptr, values_ptr, owners_ptr, thresholds_ptr, out_ptr, gated_ptr,
    num_lookups, heads, dim, base_stride,
    GATE_BLOCK: tl.constexpr, BLOCK_LOOKUPS: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """Programs of one token follow each other; the first of them also writes its gated weights."""
    program, num_blocks = tl.program_id(0).to(tl.int64), tl.cdiv(dim, BLOCK_DIM)
    token, block = program // num_blocks, program % num_blocks
    start = row_start(token, num_lookups)
    columns = block * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    inside = columns < dim
    sums = tl.zeros([BLOCK_LOOKUPS, BLOCK_DIM], weights_ptr.dtype.element_ty)
    if base_ptr is not None:
        for first in range(0, num_lookups, BLOCK_LOOKUPS):
            at = first + tl.arange(0, BLOCK_LOOKUPS)
            valid = at < num_lookups
            slots = tl.load(slots_ptr + start + at, mask=valid, other=0)
            weights = tl.load(weights_ptr + start + at, mask=valid, other=0.0)
            sums += weighted_rows(base_ptr, slots, base_stride, weights, valid, columns, inside)
    if rows_ptr is not None:
        hits = count_hits(rows_ptr + start, num_lookups, GATE_BLOCK)
        speaker, total = tl.cast(_NOBODY, tl.int64), tl.cast(1.0, sums.dtype)
        if owners_ptr is not None:
            if hits > 0:
                speaker, total = speaking_owner(
                    weights_ptr + start, rows_ptr + start, owners_ptr, thresholds_ptr, num_lookups, heads,
                    GATE_BLOCK,
                )  # fmt: skip
            if block == 0:
                for first in range(0, num_lookups, GATE_BLOCK):
                    at = first + tl.arange(0, GATE_BLOCK)
                    valid = at < num_lookups
                    rows = tl.load(rows_ptr + start + at, mask=valid, other=-1)
                    weights = tl.load(weights_ptr + start + at, mask=valid, other=0.0)
                    weights = gated_weights(weights, rows, owners_ptr, speaker, total)
                    tl.store(gated_ptr + start + at, weights, mask=valid)
        if hits > 0:
            for first in range(0, num_lookups, BLOCK_LOOKUPS):
                at = first + tl.arange(0, BLOCK_LOOKUPS)
                valid = at < num_lookups
                rows = tl.load(rows_ptr + start + at, mask=valid, other=-1)
                weights = tl.load(weights_ptr + start + at, mask=valid, other=0.0)
                if owners_ptr is not None:
                    weights = gated_weights(weights, rows, owners_ptr, speaker, total)
                heard = (rows >= 0) & (weights != 0)
                sums += weighted_rows(values_ptr, rows, dim, weights, heard, columns, inside)
    tl.store(out_ptr + row_start(token, dim) + columns, tl.sum(sums, axis=0), mask=inside)


@triton.jit(do_not_specialize=["num_lookups"], do_not_specialize_on_alignment=["rows_ptr", "dots_ptr"])
def slot_dots_kernel(
    grad_ptr, table_ptr, rows_ptr, dots_ptr, num_lookups, dim, stride,
    BLOCK_LOOKUPS: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """dots[t, j] = <grad[t], table[rows[t, j]]>, 0 where the row is -1; one program makes a tile of j."""
    program, num_blocks = tl.program_id(0).to(tl.int64), tl.cdiv(num_lookups, BLOCK_LOOKUPS)
    token, block = program // num_blocks, program % num_blocks
    at = block * BLOCK_LOOKUPS + tl.arange(0, BLOCK_LOOKUPS)
    valid = at < num_lookups
    rows = tl.load(rows_ptr + row_start(token, num_lookups) + at, mask=valid, other=-1)
    sums = tl.zeros([BLOCK_LOOKUPS, BLOCK_DIM], dots_ptr.dtype.element_ty)
    if tl.max(rows, axis=0) >= 0:
        for first in range(0, dim, BLOCK_DIM):
            columns = first + tl.arange(0, BLOCK_DIM)
            inside = columns < dim
            grad = tl.load(grad_ptr + row_start(token, dim) + columns, mask=inside, other=0.0).to(sums.dtype)
            places = row_start(rows, stride)[:, None] + columns[None, :]
            read = tl.load(table_ptr + places, mask=(rows >= 0)[:, None] & inside[None, :], other=0.0)
            sums += grad[None, :] * read.to(sums.dtype)
    # A gradient that overflowed makes 0 * inf of a miss.
    dots = tl.where(rows >= 0, tl.sum(sums, axis=1), 0.0)
    tl.store(dots_ptr + row_start(token, num_lookups) + at, dots, mask=valid)


def slot_bag_triton(
    slots: Tensor,
    weights: Tensor,
    base: Tensor | None,
    overlay_slots: Tensor | None,
    overlay_values: Tensor | None,
    overlay_owners: Tensor | None,
    thresholds: Tensor | None,
    heads: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the filter and the kernel; arguments and results as in slot_bag_reference."""
    table = base if base is not None else overlay_values
    assert table is not None
    if table.shape[1] == 0:
        # The kernel counts programs by columns; of such rows only the gate is left.
        return slot_bag_reference(
            slots, weights, base, overlay_slots, overlay_values, overlay_owners, thresholds, heads, dtype
        )
    check_values(slots, weights, base, overlay_slots, overlay_owners, thresholds)
    slots, weights = slots.contiguous(), weights.contiguous()
    rows = values = owners = gated = None
    if overlay_slots is not None and overlay_values is not None:
        rows, values = slot_rows_triton(slots, overlay_slots), overlay_values.contiguous()
    if overlay_owners is not None and thresholds is not None:
        owners, thresholds = overlay_owners.contiguous(), thresholds.contiguous()
        gated = new_output(weights.shape, weights.dtype, weights.device)
    (num_tokens, num_lookups), dim = slots.shape, table.shape[1]
    out = new_output((num_tokens, dim), dtype, weights.device)
    block_lookups, block_dim = block_sizes(dim, table.element_size())
    if num_tokens:
        slot_bag_kernel[(num_tokens * triton.cdiv(dim, block_dim),)](
            slots, weights, base, rows, values, owners, thresholds, out, gated,
            num_lookups, heads, dim, 0 if base is None else base.stride(0), GATE_BLOCK=GATE_BLOCK,
            BLOCK_LOOKUPS=block_lookups, BLOCK_DIM=block_dim, num_warps=NUM_WARPS,
        )  # fmt: skip
    return (
        out,
        slots.new_empty(0) if rows is None else rows,
        weights.new_empty(0) if gated is None else gated,
    )


def slot_bag_backward_triton(
    grad_output: Tensor,
    slots: Tensor,
    weights: Tensor,
    base: Tensor | None,
    rows: Tensor,
    gated: Tensor,
    overlay_values: Tensor | None,
    overlay_owners: Tensor | None,
) -> Tensor:
    """Run the kernel on each table; arguments and result as in slot_bag_backward_reference."""
    grad_output, weights, gradient = grad_output.contiguous(), weights.contiguous(), None
    if base is not None:
        gradient = _dots(grad_output, base, slots.contiguous(), weights.dtype)
    if overlay_values is not None:
        dots = _dots(grad_output, overlay_values.contiguous(), rows, weights.dtype)
        if overlay_owners is not None:
            dots = gate_gradient(dots, gated, owners_of_rows(overlay_owners, rows), weights)
        gradient = dots if gradient is None else gradient.add_(dots)
    assert gradient is not None
    return gradient


def _dots(grad_output: Tensor, table: Tensor, rows: Tensor, dtype: torch.dtype) -> Tensor:
    dots = new_output(rows.shape, dtype, rows.device)
    if rows.numel():
        block_lookups, block_dim = block_sizes(table.shape[1], table.element_size())
        slot_dots_kernel[(len(rows) * triton.cdiv(rows.shape[1], block_lookups),)](
            grad_output, table, rows, dots, rows.shape[1], table.shape[1], table.stride(0),
            BLOCK_LOOKUPS=block_lookups, BLOCK_DIM=block_dim, num_warps=NUM_WARPS,
        )  # fmt: skip
    return dots
