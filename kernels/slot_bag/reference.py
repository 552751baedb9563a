"""The weighted sum of value rows in plain torch: what the CPU runs and Triton is compared with.

A base table in the weights' type goes through embedding_bag, which reads the rows where they are. One in half
precision is gathered and converted in pieces that stay in the cache, so that each row comes from memory once
and the sum is in fp32. Written rows are few and most look-ups miss them: only the hits are read.
"""

import torch
from memedit_kernels.slot_bag.gate import gate_gradient, gate_hits, owners_of_rows
from memedit_kernels.slot_bag.overlay import check_values
from memedit_kernels.slot_rows.reference import slot_rows_reference
from torch import Tensor
from torch.nn import functional

# Elements gathered at a time for each thread: with their fp32 copy 1 MB, half of a core's second-level cache.
_CHUNK_ELEMENTS = 160_000


def slot_bag_reference(
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
    """Return the bags and what backward needs (slot_bag checks shapes and types).

    Args:
        slots: int64 [tokens, j].
        weights: fp32 or fp64 [tokens, j].
        base: [slots, dim] or None.
        overlay_slots: int64 [n] ascending, or None.
        overlay_values: [n, dim] in the weights' type.
        overlay_owners: int64 [n], or None without a gate.
        thresholds: [num_owners].
        heads: routing heads in j.
        dtype: type of the bags.

    Returns:
        bags [tokens, dim] in dtype; rows int64 [tokens, j], the overlay row of each look-up or -1 (empty
        without an overlay); gated weights [tokens, j] of the overlay (empty without a gate).
    """
    check_values(slots, weights, base, overlay_slots, overlay_owners, thresholds)
    rows, gated = slots.new_empty(0), weights.new_empty(0)
    if base is not None:
        bag = base_bag(slots, weights, base)
    else:
        assert overlay_values is not None
        bag = weights.new_zeros(len(slots), overlay_values.shape[1])
    if overlay_slots is not None and overlay_values is not None:
        rows = slot_rows_reference(slots, overlay_slots)
        speaking = weights
        if overlay_owners is not None and thresholds is not None:
            speaking = gated = _gated_weights(rows, weights, overlay_owners, thresholds, heads)
        _add_written(bag, rows, speaking, overlay_values)
    return bag.to(dtype), rows, gated


def base_bag(slots: Tensor, weights: Tensor, base: Tensor) -> Tensor:
    """Return sum_j weights[t, j] * base[slots[t, j]] in the weights' type, [tokens, dim]."""
    if slots.numel() == 0 or base.shape[1] == 0:
        return weights.new_zeros(len(slots), base.shape[1])
    # A table whose rows are apart would be copied whole by embedding_bag.
    if base.dtype == weights.dtype and base.is_contiguous():
        return functional.embedding_bag(slots, base, mode="sum", per_sample_weights=weights)
    bag = weights.new_empty(len(slots), base.shape[1])
    per_token = slots.shape[1]
    step = _chunk_size(per_token * base.shape[1])
    places = torch.arange(step * per_token, device=slots.device).view(step, per_token)
    for at in range(0, len(slots), step):
        part = slots[at : at + step]
        read = base.index_select(0, part.flatten()).to(weights.dtype)
        # The same summation as above, so that a half-precision table gives what its fp32 copy would.
        bag[at : at + step] = functional.embedding_bag(
            places[: len(part)], read, mode="sum", per_sample_weights=weights[at : at + step]
        )
    return bag


def slot_bag_backward_reference(
    grad_output: Tensor,
    slots: Tensor,
    weights: Tensor,
    base: Tensor | None,
    rows: Tensor,
    gated: Tensor,
    overlay_values: Tensor | None,
    overlay_owners: Tensor | None,
) -> Tensor:
    """Return the gradient of the weights.

    Args:
        grad_output: [tokens, dim], any type of bags.
        slots: int64 [tokens, j].
        weights: fp32 or fp64 [tokens, j].
        base: [slots, dim] or None.
        rows: int64 [tokens, j] from the forward.
        gated: [tokens, j] from the forward.
        overlay_values: [n, dim] or None.
        overlay_owners: int64 [n], or None without a gate.

    Returns:
        [tokens, j] in the weights' type.
    """
    grad_output, gradient = grad_output.to(weights.dtype), torch.zeros_like(weights)
    if slots.numel() == 0:
        return gradient
    if base is not None:
        _base_dots(grad_output, slots, base, gradient)
    if overlay_values is None:
        return gradient
    dots = _written_dots(grad_output, rows, overlay_values)
    if overlay_owners is not None:
        dots = gate_gradient(dots, gated, owners_of_rows(overlay_owners, rows), weights)
    return gradient.add_(dots)


def _gated_weights(rows: Tensor, weights: Tensor, owners: Tensor, thresholds: Tensor, heads: int) -> Tensor:
    token_of, column_of = (rows >= 0).nonzero(as_tuple=True)
    gated = torch.zeros_like(weights)
    if len(token_of):
        owner_of, weight_of = owners[rows[token_of, column_of]], weights[token_of, column_of]
        speaking, _, _ = gate_hits(token_of, owner_of, weight_of, thresholds, heads, len(rows))
        gated[token_of, column_of] = speaking
    return gated


def _add_written(bag: Tensor, rows: Tensor, weights: Tensor, values: Tensor) -> None:
    """Add the written rows to the bags of the tokens that hit any."""
    token_of, column_of = ((rows >= 0) & (weights != 0)).nonzero(as_tuple=True)
    if len(token_of) == 0 or values.shape[1] == 0:
        return
    tokens, counts = token_of.unique_consecutive(return_counts=True)
    written = functional.embedding_bag(
        rows[token_of, column_of],
        values.contiguous(),
        counts.cumsum(0) - counts,
        mode="sum",
        per_sample_weights=weights[token_of, column_of],
    )
    bag.index_add_(0, tokens, written)


def _base_dots(grad_output: Tensor, slots: Tensor, base: Tensor, dots: Tensor) -> None:
    """Write <grad_output[t], base[slots[t, j]]> to dots [tokens, j]."""
    step = _chunk_size(slots.shape[1] * base.shape[1])
    for at in range(0, len(slots), step):
        part = slots[at : at + step]
        read = base.index_select(0, part.flatten()).to(dots.dtype).view(*part.shape, base.shape[1])
        # Not bmm: its sums depend on how many tokens a piece has.
        torch.sum(read.mul_(grad_output[at : at + step, None]), -1, out=dots[at : at + step])


def _written_dots(grad_output: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """Return <grad_output[t], values[rows[t, j]]> where a row was hit and 0 elsewhere, [tokens, j]."""
    token_of, column_of = (rows >= 0).nonzero(as_tuple=True)
    dots = grad_output.new_zeros(rows.shape)
    row_of = rows[token_of, column_of]
    step = _chunk_size(values.shape[1])
    parts = [
        grad_output.index_select(0, tokens).mul_(values.index_select(0, hits)).sum(-1)
        for tokens, hits in zip(token_of.split(step), row_of.split(step), strict=True)
    ]
    dots[token_of, column_of] = torch.cat(parts)
    return dots


def _chunk_size(elements: int) -> int:
    """How many things of so many elements to gather at a time, the same number for each thread."""
    return max(1, _CHUNK_ELEMENTS // max(1, elements)) * torch.get_num_threads()
