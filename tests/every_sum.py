"""The scores of all slots of a product-key memory, which a search and its gradient are compared with."""

from __future__ import annotations

import torch


def every_sum(queries, sub_keys):
    """Scores of all slots, fp64 [tokens, heads, n * n]."""
    half = queries.shape[-1] // 2
    queries, sub_keys = queries.double(), sub_keys.double()
    first = torch.einsum("thd,hnd->thn", queries[..., :half], sub_keys[:, 0])
    second = torch.einsum("thd,hnd->thn", queries[..., half:], sub_keys[:, 1])
    return (first[..., :, None] + second[..., None, :]).flatten(-2)
