"""The public weighted sum of value rows: checks its arguments and hands them to PyTorch's dispatcher."""

from typing import Any

import torch
from memedit_kernels.arguments import TABLE_TYPES, check_device, check_lookups, check_tensor
from memedit_kernels.backend import register_triton
from memedit_kernels.slot_bag.overlay import SlotOverlay, check_overlay
from memedit_kernels.slot_bag.reference import slot_bag_backward_reference, slot_bag_reference
from memedit_kernels.slot_gradient import row_gradient
from torch import Tensor


def slot_bag(
    slots: Tensor,
    weights: Tensor,
    *,
    base: Tensor | None = None,
    overlay: SlotOverlay | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Sum the value rows of each token's look-ups, weighted: those of the base table and the written ones.

    out[t] = sum_j weights[t, j] * base[slots[t, j]] + sum_j gated[t, j] * overlay.values[row of slots[t, j]],
    over the look-ups that hit the overlay. `gated` is what ownership_gate makes of the weights, or the
    weights where the overlay has no owners. Sums are in fp32 and cast once, at the end.

    Gradients reach the weights (a gate that is open stays open) and overlay.values, never the base table.
    Neither table is copied, and without a base table no memory depends on the number of slots.

    Args:
        slots: int64 [tokens, j], each in [0, rows of base); without a base table any number from 0 on, and
            one that the overlay does not have adds nothing.
        weights: fp32 (fp64 for gradient checks) [tokens, j]; 0 or more where the overlay has owners.
        base: fp32, bf16 or fp16 [rows, dim], each row contiguous; None = all zeros.
        overlay: written rows that are added to those of the base table, their slots in it; None = none.
        dtype: type of the result.

    Returns:
        [tokens, dim] in dtype.

    Raises:
        ValueError: when shapes, types, devices, slots, owners, or a gate's weights do not fit, or there is
            nothing to sum.
    """
    check_lookups(slots, weights)
    if base is None and overlay is None:
        raise ValueError("base: got None and no overlay, expected at least one of them")
    if dtype not in TABLE_TYPES:
        raise ValueError(f"dtype: got {dtype}, expected torch.float32, torch.bfloat16 or torch.float16")
    if base is not None:
        _check_base(base, weights)
        base = base.detach()
    values = owners = thresholds = overlay_slots = None
    heads = 1
    if overlay is not None:
        check_overlay(overlay, weights)
        overlay_slots, values, owners, thresholds, heads = overlay
        if base is not None and base.shape[1] != values.shape[1]:
            raise ValueError(
                f"overlay.values: got width {values.shape[1]}, expected {base.shape[1]} as in base"
            )
    check_device(
        slots=slots, weights=weights, base=base, overlay_slots=overlay_slots, overlay_values=values,
        overlay_owners=owners, thresholds=thresholds,
    )  # fmt: skip
    output: Tensor = _slot_bag(slots, weights, base, overlay_slots, values, owners, thresholds, heads, dtype)[
        0
    ]
    return output


def _check_base(base: Tensor, weights: Tensor) -> None:
    check_tensor("base", base, 2, TABLE_TYPES, "fp32, bf16 or fp16 [rows, dim]")
    if base.dtype == torch.float64 != weights.dtype:
        raise ValueError(
            f"weights: got {weights.dtype}, expected torch.float64 with a base table of that type"
        )
    if base.shape[1] > 1 and base.stride(1) != 1:
        raise ValueError(
            f"base: got strides {base.stride()}, expected rows without gaps (a second stride of 1)"
        )


@torch.library.custom_op("memedit::slot_bag", mutates_args=())
def _slot_bag(
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
    return slot_bag_reference(
        slots, weights, base, overlay_slots, overlay_values, overlay_owners, thresholds, heads, dtype
    )


@_slot_bag.register_fake
def _(
    slots: Tensor,
    weights: Tensor,
    base: Tensor | None,
    overlay_slots: Tensor | None,
    overlay_values: Tensor | None,
    overlay_owners: Tensor | None,
    thresholds: Tensor | None,  # noqa: ARG001
    heads: int,  # noqa: ARG001
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    table = overlay_values if base is None else base
    assert table is not None
    return (
        weights.new_empty(weights.shape[0], table.shape[1], dtype=dtype),
        slots.new_empty(0 if overlay_slots is None else slots.shape),
        weights.new_empty(0 if overlay_owners is None else weights.shape),
    )


@torch.library.custom_op("memedit::slot_bag_backward", mutates_args=())
def _slot_bag_backward(
    grad_output: Tensor,
    slots: Tensor,
    weights: Tensor,
    base: Tensor | None,
    rows: Tensor,
    gated: Tensor,
    overlay_values: Tensor | None,
    overlay_owners: Tensor | None,
) -> Tensor:
    return slot_bag_backward_reference(
        grad_output, slots, weights, base, rows, gated, overlay_values, overlay_owners
    )


@_slot_bag_backward.register_fake
def _(
    grad_output: Tensor,  # noqa: ARG001
    slots: Tensor,  # noqa: ARG001
    weights: Tensor,
    base: Tensor | None,  # noqa: ARG001
    rows: Tensor,  # noqa: ARG001
    gated: Tensor,  # noqa: ARG001
    overlay_values: Tensor | None,  # noqa: ARG001
    overlay_owners: Tensor | None,  # noqa: ARG001
) -> Tensor:
    return torch.empty_like(weights, memory_format=torch.contiguous_format)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    """Keep what the gradients that are asked for need, and nothing of it where only the table asks."""
    slots, weights, base, _, values, owners, *_ = inputs
    _, rows, gated = output
    ctx.mark_non_differentiable(rows, gated)
    ctx.set_materialize_grads(False)
    for_weights, for_values = ctx.needs_input_grad[1], ctx.needs_input_grad[4]
    # What the written rows were multiplied by: their gradient needs no more than this and the rows.
    speaking = weights if owners is None else gated
    ctx.num_rows = None if values is None else values.shape[0]
    ctx.save_for_backward(
        rows if for_weights or for_values else None,
        speaking if for_values else None,
        *((slots, weights, base, gated, values, owners) if for_weights else ()),
    )


def _backward(ctx: Any, grad_output: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    rows, speaking, *for_weights = ctx.saved_tensors
    grad_weights = grad_values = None
    if grad_output is not None and ctx.needs_input_grad[1]:
        slots, weights, base, gated, values, owners = for_weights
        grad_weights = _slot_bag_backward(grad_output, slots, weights, base, rows, gated, values, owners)
    if grad_output is not None and ctx.needs_input_grad[4]:
        # A look-up that the gate closed is left out, as in the sum.
        heard = rows.masked_fill(speaking == 0, -1)
        grad_values = row_gradient(grad_output, heard, speaking, ctx.num_rows)
    return (None, grad_weights, None, None, grad_values, None, None, None, None)


_slot_bag.register_autograd(_backward, setup_context=_save_for_backward)

_TRITON = "memedit_kernels.slot_bag.triton_kernel"
register_triton(_slot_bag, _TRITON, "slot_bag_triton")
register_triton(_slot_bag_backward, _TRITON, "slot_bag_backward_triton")
