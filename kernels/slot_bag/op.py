"""The public weighted sum of value rows: checks its arguments and hands them to the backend."""

import torch
from memedit_kernels.slot_bag.reference import slot_bag_reference
from torch import Tensor


def slot_bag(values: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sum the value rows of each token, weighted: out[t] = sum_j weights[t, j] * values[rows[t, j]].

    Differentiable in values and weights. A row of -1 is not present and adds nothing.

    Args:
        values: [rows, dim], any floating type.
        rows: int64 [tokens, j], each -1 or in [0, rows).
        weights: fp32 [tokens, j] (fp64 for gradient checks).

    Returns:
        [tokens, dim] in the type of the weights, fp32 in use.

    Raises:
        ValueError: when shapes, types or row numbers do not fit.
    """
    if values.dim() != 2 or not values.is_floating_point():
        raise ValueError(f"values: got {values.dtype} {tuple(values.shape)}, expected floating [rows, dim]")
    if rows.dim() != 2 or rows.dtype != torch.int64:
        raise ValueError(f"rows: got {rows.dtype} {tuple(rows.shape)}, expected torch.int64 [tokens, j]")
    if weights.shape != rows.shape or weights.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"weights: got {weights.dtype} {tuple(weights.shape)}, expected torch.float32 {tuple(rows.shape)}"
        )
    if rows.numel():
        low, high = (int(bound) for bound in torch.aminmax(rows))
        if low < -1 or high >= len(values):
            raise ValueError(f"rows: got numbers in [{low}, {high}], expected -1 or 0 to {len(values) - 1}")
    return slot_bag_reference(values, rows, weights)
