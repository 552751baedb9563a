"""The public gradient of selected rows: checks its arguments and hands them to PyTorch's dispatcher.

The ops have no gradient of their own; PyTorch then raises in a backward that comes through them.
"""

import torch
from memedit_kernels.arguments import TABLE_TYPES, check_count, check_device, check_lookups, check_tensor
from memedit_kernels.backend import register_triton
from memedit_kernels.slot_gradient.plan import RowPlan
from memedit_kernels.slot_gradient.reference import (
    planned_row_gradient_reference,
    row_gradient_reference,
    sum_type,
)
from memedit_kernels.slot_rows import slot_rows
from torch import Tensor


def slot_gradient(grad_output: Tensor, slots: Tensor, weights: Tensor, selected: Tensor) -> Tensor:
    """Gradient of the selected slots' value rows, from the gradient of the weighted sums.

    Nothing of the table's size is made: memory grows with tokens, look-ups and selected rows. A look-up of a
    slot that is not selected costs the filter only. The same input gives the same bits.

    Args:
        grad_output: fp32, bf16 or fp16 (fp64 for gradient checks) [tokens, dim].
        slots: int64 [tokens, j], the slots that each token looked up, from 0 on.
        weights: fp32 (fp64 for gradient checks) [tokens, j].
        selected: int64 [n], ascending, each once.

    Returns:
        fp32 (fp64 where an argument is) [n, dim]: for each selected slot the sum of weight * grad_output over
        its look-ups. It has no gradient of its own: a backward through it is an error.

    Raises:
        ValueError: when shapes, types, devices, slots or the order of `selected` do not fit.
    """
    check_lookups(slots, weights)
    _check_grad_output(grad_output, slots, "slots")
    check_tensor("selected", selected, 1, (torch.int64,), "torch.int64 [n]")
    check_device(grad_output=grad_output, slots=slots, weights=weights, selected=selected)
    rows = slot_rows(slots, selected, name="selected", refuse_negative=True)
    gradient: Tensor = _row_gradient(grad_output, rows, weights, len(selected))
    return gradient


def row_gradient(
    grad_output: Tensor, rows: Tensor, weights: Tensor, num_rows: int, plan: RowPlan | None = None
) -> Tensor:
    """Sum weighted output gradients by row: slot_gradient for look-ups whose rows are known.

    A look-up with weight 0 is summed as any other (so 0 * inf is NaN); mark it -1 to leave it out.

    Args:
        grad_output: fp32, bf16 or fp16 (fp64 for gradient checks) [tokens, dim].
        rows: int64 [tokens, j], in [0, num_rows); -1 = counts nowhere.
        weights: fp32 (fp64 for gradient checks) [tokens, j].
        num_rows: rows of the result.
        plan: what plan_row_gradient(rows, num_rows) returned, where many gradients have the same rows; the
            values of `rows` are then not read.

    Returns:
        fp32 (fp64 where an argument is) [num_rows, dim]; zeros where a row has no look-up. It has no gradient
        of its own: a backward through it is an error.

    Raises:
        ValueError: when shapes, types, devices, row numbers or the plan do not fit.
    """
    check_lookups(rows, weights, name="rows")
    _check_grad_output(grad_output, rows, "rows")
    check_count("num_rows", num_rows, 0)
    check_device(grad_output=grad_output, rows=rows, weights=weights)
    if plan is None:
        gradient: Tensor = _row_gradient(grad_output, rows, weights, num_rows)
    else:
        _check_plan_shape(plan, num_rows)
        check_device(grad_output=grad_output, plan=plan.lookups, starts=plan.starts)
        gradient = _planned_row_gradient(grad_output, weights, plan.lookups, plan.starts)
    return gradient


def _check_grad_output(grad_output: Tensor, lookups: Tensor, name: str) -> None:
    check_tensor("grad_output", grad_output, 2, TABLE_TYPES, "fp32, bf16 or fp16 [tokens, dim]")
    if grad_output.shape[0] != lookups.shape[0]:
        raise ValueError(
            f"grad_output: got {grad_output.shape[0]} tokens, expected {lookups.shape[0]} as in {name}"
        )


def _check_plan_shape(plan: RowPlan, num_rows: int) -> None:
    check_tensor("plan.lookups", plan.lookups, 1, (torch.int64,), "torch.int64 [hits]")
    check_tensor("plan.starts", plan.starts, 1, (torch.int64,), "torch.int64 [num_rows + 1]")
    if len(plan.starts) != num_rows + 1:
        raise ValueError(f"plan: got a plan of {len(plan.starts) - 1} rows, expected {num_rows}")


@torch.library.custom_op("memedit::row_gradient", mutates_args=())
def _row_gradient(grad_output: Tensor, rows: Tensor, weights: Tensor, num_rows: int) -> Tensor:
    return row_gradient_reference(grad_output, rows, weights, num_rows)


@_row_gradient.register_fake
def _(grad_output: Tensor, rows: Tensor, weights: Tensor, num_rows: int) -> Tensor:  # noqa: ARG001
    return grad_output.new_empty(num_rows, grad_output.shape[1], dtype=sum_type(grad_output, weights))


@torch.library.custom_op("memedit::planned_row_gradient", mutates_args=())
def _planned_row_gradient(grad_output: Tensor, weights: Tensor, lookups: Tensor, starts: Tensor) -> Tensor:
    return planned_row_gradient_reference(grad_output, weights, lookups, starts)


@_planned_row_gradient.register_fake
def _(grad_output: Tensor, weights: Tensor, lookups: Tensor, starts: Tensor) -> Tensor:  # noqa: ARG001
    return grad_output.new_empty(
        starts.shape[0] - 1, grad_output.shape[1], dtype=sum_type(grad_output, weights)
    )


_TRITON = "memedit_kernels.slot_gradient.triton_kernel"
register_triton(_row_gradient, _TRITON, "row_gradient_triton")
register_triton(_planned_row_gradient, _TRITON, "planned_row_gradient_triton")
