"""The written rows that slot_bag reads beside the base table, and the checks of them."""

from typing import NamedTuple

import torch
from memedit_kernels.arguments import check_ascending, check_count, check_range, check_tensor, check_weights
from memedit_kernels.slot_bag.gate import UNGATED
from torch import Tensor


class SlotOverlay(NamedTuple):
    """A few rows of a value table, kept apart from it.

    Attributes:
        slots: int64 [n], ascending, each once.
        values: fp32 [n, dim] (fp64 for gradient checks); may require gradients.
        owners: int64 [n], index into thresholds or UNGATED; None = no gate at all.
        thresholds: fp32 [num_owners], routing mass from which an owner's rows speak; None = no gate at all.
        heads: routing heads in a token's look-ups; an owner's mass is its weight divided by them.
    """

    slots: Tensor
    values: Tensor
    owners: Tensor | None = None
    thresholds: Tensor | None = None
    heads: int = 1


def check_overlay(overlay: SlotOverlay, weights: Tensor) -> None:
    """Check types and shapes of an overlay that look-ups with these weights read.

    Raises:
        ValueError: naming the field, what was got and what was expected.
    """
    slots, values, owners, thresholds, heads = overlay
    check_tensor("overlay.slots", slots, 1, (torch.int64,), "torch.int64 [n]")
    num_rows = slots.shape[0]
    expected = f"{weights.dtype} [{num_rows}, dim]"
    check_tensor("overlay.values", values, 2, (weights.dtype,), expected)
    if values.shape[0] != num_rows:
        raise ValueError(f"overlay.values: got {values.dtype} {tuple(values.shape)}, expected {expected}")
    if (owners is None) != (thresholds is None):
        missing = "owners" if owners is None else "thresholds"
        raise ValueError(f"overlay.{missing}: got None, expected owners and thresholds, or neither")
    if owners is not None and thresholds is not None:
        check_tensor("overlay.owners", owners, 1, (torch.int64,), f"torch.int64 [{num_rows}]")
        if owners.shape[0] != num_rows:
            raise ValueError(f"overlay.owners: got {owners.shape[0]} owners, expected {num_rows}")
        types = (torch.float32, torch.float64)
        check_tensor("overlay.thresholds", thresholds, 1, types, "torch.float32 [num_owners]")
    check_count("overlay.heads", heads, 1)


def check_values(
    slots: Tensor,
    weights: Tensor,
    base: Tensor | None,
    overlay_slots: Tensor | None,
    overlay_owners: Tensor | None,
    thresholds: Tensor | None,
) -> None:
    """Check what only the data shows: slots in the table, overlay slots in order, owners that exist.

    Where a gate is set, weights too: it compares their sums, and there NaN is neither more nor less.

    Raises:
        ValueError: naming the argument, what was got and what was expected.
    """
    end = None if base is None else len(base)
    check_range("slots", slots, end)
    if overlay_slots is not None:
        check_ascending("overlay.slots", overlay_slots)
        check_range("overlay.slots", overlay_slots, end)
    if overlay_owners is not None and thresholds is not None:
        check_weights(weights)
        check_range("overlay.owners", overlay_owners, len(thresholds), lowest=UNGATED)
