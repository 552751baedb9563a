"""Gradients of the product-key search: a score depends on a sub-key of each half and on the query's halves.

Both are weighted sums of rows, which other ops already have, in Triton and in plain torch: a query's half
gets the sum of the sub-keys that it found (slot_bag), a sub-key that of the query halves that found it
(row_gradient). So nothing of n's size is made but the result, there are no atomics, and equal input gives
equal bits.
"""

import torch
from memedit_kernels.slot_bag import slot_bag
from memedit_kernels.slot_gradient import row_gradient
from torch import Tensor


def product_key_topk_gradient(
    grad_scores: Tensor,
    slots: Tensor,
    queries: Tensor,
    sub_keys: Tensor,
    for_queries: bool,
    for_sub_keys: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients that are asked for, in the types of queries and sub-keys, and empty ones else.

    Args:
        grad_scores: fp32 (fp64 with fp64 queries) [tokens, heads, k].
        slots: int64 [tokens, heads, k], as the search returned them.
        queries: [tokens, heads, key_dim].
        sub_keys: [heads, 2, n, key_dim / 2].
        for_queries: whether the gradient of the queries is asked for.
        for_sub_keys: whether the gradient of the sub-keys is asked for.

    Returns:
        gradients in the shapes of queries and sub-keys, or [0].
    """
    rows, weights = _half_lookups(grad_scores, slots, sub_keys.shape[2])
    grad_queries, grad_sub_keys = queries.new_empty(0), sub_keys.new_empty(0)
    if for_queries:
        bags = slot_bag(rows, weights, base=sub_keys.reshape(-1, sub_keys.shape[3]), dtype=weights.dtype)
        grad_queries = bags.view(queries.shape).to(queries.dtype)
    if for_sub_keys:
        halves = queries.reshape(-1, sub_keys.shape[3])
        sums = row_gradient(halves, rows, weights, sub_keys.shape[:3].numel())
        grad_sub_keys = sums.view(sub_keys.shape).to(sub_keys.dtype)
    return grad_queries, grad_sub_keys


def _half_lookups(grad_scores: Tensor, slots: Tensor, num_keys: int) -> tuple[Tensor, Tensor]:
    """Rows of sub_keys.view(heads * 2 * n, key_dim / 2) that each half found, and their weights."""
    heads, k = slots.shape[1:]
    keys = torch.stack((slots.div(num_keys, rounding_mode="floor"), slots % num_keys), dim=2)
    tables = torch.arange(heads * 2, device=slots.device).view(heads, 2, 1) * num_keys
    weights = grad_scores[:, :, None].expand(-1, -1, 2, -1)
    return (keys + tables).view(-1, k), weights.reshape(-1, k)
