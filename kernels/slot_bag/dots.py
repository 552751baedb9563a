"""The product of each token's vector with the rows that it looks up: half of a single-neuron expert.

It is the gradient of slot_bag with respect to its weights, so the same kernels compute it.
"""

from typing import Any

import torch
from memedit_kernels.arguments import TABLE_TYPES, check_device, check_lookups, check_tensor
from memedit_kernels.slot_bag.op import _slot_bag_backward, slot_bag
from memedit_kernels.slot_bag.overlay import check_values
from memedit_kernels.slot_gradient import row_gradient
from torch import Tensor


def slot_dots(inputs: Tensor, slots: Tensor, table: Tensor) -> Tensor:
    """Return <inputs[t], table[slots[t, j]]> for every look-up.

    Gradients reach the inputs, and the table where it requires one: pass the few rows that are read, not a
    whole table, or the gradient has the table's size.

    Args:
        inputs: fp32 [tokens, dim].
        slots: int64 [tokens, j], each in [0, rows of table).
        table: fp32, bf16 or fp16 [rows, dim], each row contiguous.

    Returns:
        fp32 [tokens, j].

    Raises:
        ValueError: when shapes, types or devices do not fit.
    """
    check_tensor("inputs", inputs, 2, (torch.float32, torch.float64), "fp32 [tokens, dim]")
    check_tensor("table", table, 2, TABLE_TYPES, "fp32, bf16 or fp16 [rows, dim]")
    shape_of_weights = inputs.new_empty(slots.shape)
    check_lookups(slots, shape_of_weights)
    if len(inputs) != len(slots) or inputs.shape[1] != table.shape[1]:
        expected = (len(slots), table.shape[1])
        raise ValueError(
            f"inputs: got {tuple(inputs.shape)}, expected {expected} as in slots and the table's rows"
        )
    check_device(inputs=inputs, slots=slots, table=table)
    if slots.device.type == "cpu":
        # As for slot_bag, the values of slots are read only where that does not hold up a device.
        check_values(slots, shape_of_weights, table, None, None, None)
    dots: Tensor = _SlotDots.apply(inputs, slots, table)  # type: ignore[no-untyped-call]
    return dots


class _SlotDots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, slots: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, slots, table)
        shape_of_weights, nothing = inputs.new_empty(slots.shape), slots.new_empty(0)
        found: Tensor = _slot_bag_backward(
            inputs, slots, shape_of_weights, table.detach(), nothing, inputs.new_empty(0), None, None
        )
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        inputs, slots, table = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_inputs = slot_bag(slots, gradient, base=table) if ctx.needs_input_grad[0] else None
        to_table = row_gradient(inputs, slots, gradient, len(table)) if ctx.needs_input_grad[2] else None
        return to_inputs, None, to_table
