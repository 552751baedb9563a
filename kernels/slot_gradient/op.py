"""The public gradient of selected rows: checks its arguments and hands them to PyTorch's dispatcher."""

import torch
from memedit_kernels.arguments import TABLE_TYPES, check_device, check_lookups, check_tensor
from memedit_kernels.slot_gradient.reference import row_gradient_reference
from memedit_kernels.slot_rows import slot_rows
from torch import Tensor


def slot_gradient(grad_output: Tensor, slots: Tensor, weights: Tensor, selected: Tensor) -> Tensor:
    """Gradient of the selected slots' value rows, from the gradient of the weighted sums.

    Nothing of the table's size is made: memory grows with tokens, look-ups and selected rows. A look-up of a
    slot that is not selected costs the filter only. The same input gives the same bits.

    Args:
        grad_output: fp32, bf16 or fp16 (fp64 for gradient checks) [tokens, dim].
        slots: int64 [tokens, j], the slots that each token looked up.
        weights: fp32 (fp64 for gradient checks) [tokens, j].
        selected: int64 [n], ascending, each once.

    Returns:
        fp32 (fp64 where an argument is) [n, dim]: for each selected slot the sum of weight * grad_output over
        its look-ups. It has no gradient of its own: a backward through it is an error.

    Raises:
        ValueError: when shapes, types, devices or the order of `selected` do not fit.
    """
    check_lookups(slots, weights)
    _check_grad_output(grad_output, slots, "slots")
    check_tensor("selected", selected, 1, (torch.int64,), "torch.int64 [n]")
    check_device(grad_output=grad_output, slots=slots, weights=weights, selected=selected)
    gradient: Tensor = _row_gradient(grad_output, slot_rows(slots, selected), weights, len(selected))
    return gradient


def row_gradient(grad_output: Tensor, rows: Tensor, weights: Tensor, num_rows: int) -> Tensor:
    """Sum weighted output gradients by row: slot_gradient for look-ups whose rows are known.

    Args:
        grad_output: fp32, bf16 or fp16 (fp64 for gradient checks) [tokens, dim].
        rows: int64 [tokens, j], in [0, num_rows); -1 = counts nowhere.
        weights: fp32 (fp64 for gradient checks) [tokens, j].
        num_rows: rows of the result.

    Returns:
        fp32 (fp64 where an argument is) [num_rows, dim]; zeros where a row has no look-up. It has no gradient
        of its own: a backward through it is an error.

    Raises:
        ValueError: when shapes, types, devices or row numbers do not fit.
    """
    check_tensor("rows", rows, 2, (torch.int64,), "torch.int64 [tokens, j]")
    if weights.shape != rows.shape or weights.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"weights: got {weights.dtype} {tuple(weights.shape)}, expected torch.float32 {tuple(rows.shape)}"
        )
    _check_grad_output(grad_output, rows, "rows")
    if num_rows < 0:
        raise ValueError(f"num_rows: got {num_rows}, expected 0 or more")
    check_device(grad_output=grad_output, rows=rows, weights=weights)
    gradient: Tensor = _row_gradient(grad_output, rows, weights, num_rows)
    return gradient


def _check_grad_output(grad_output: Tensor, lookups: Tensor, name: str) -> None:
    check_tensor("grad_output", grad_output, 2, TABLE_TYPES, "fp32, bf16 or fp16 [tokens, dim]")
    if grad_output.shape[0] != lookups.shape[0]:
        raise ValueError(
            f"grad_output: got {grad_output.shape[0]} tokens, expected {lookups.shape[0]} as in {name}"
        )


@torch.library.custom_op("memedit::row_gradient", mutates_args=())
def _row_gradient(grad_output: Tensor, rows: Tensor, weights: Tensor, num_rows: int) -> Tensor:
    return row_gradient_reference(grad_output, rows, weights, num_rows)


@_row_gradient.register_fake
def _(grad_output: Tensor, rows: Tensor, weights: Tensor, num_rows: int) -> Tensor:
    double = torch.float64 in (grad_output.dtype, weights.dtype)
    return grad_output.new_empty(
        num_rows, grad_output.shape[1], dtype=torch.float64 if double else torch.float32
    )
