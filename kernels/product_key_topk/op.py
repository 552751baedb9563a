"""The public product-key search: checks its arguments and hands them to the backend."""

import torch
from memedit_kernels.product_key_topk.reference import product_key_topk_reference
from torch import Tensor


def product_key_topk(queries: Tensor, sub_keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k slots with the highest product-key scores for each token and head.

    Slot i * n + j scores <first half of the query, sub_keys[h, 0, i]> + <second half, sub_keys[h, 1, j]>. The
    answer is exact: slots are ordered by score, and equal scores by slot id, lower first. Scores carry
    gradients to both inputs.

    Args:
        queries: fp32 [tokens, heads, key_dim], key_dim even.
        sub_keys: fp32 [heads, 2, n, key_dim / 2].
        k: slots per head, 1 <= k <= n * n.

    Returns:
        slots int64 [tokens, heads, k] and scores fp32 [tokens, heads, k], best first.

    Raises:
        ValueError: when shapes, types or k do not fit, or a score is NaN or infinite.

    Source: Lample et al. 2019 (arXiv 1907.05242), section 3.2.
    """
    if queries.dim() != 3 or queries.shape[-1] % 2 or queries.shape[-1] == 0:
        raise ValueError(
            f"queries: got shape {tuple(queries.shape)}, expected [tokens, heads, key_dim], key_dim even"
        )
    _, heads, key_dim = queries.shape
    if sub_keys.dim() != 4 or sub_keys.shape[:2] != (heads, 2) or sub_keys.shape[3] != key_dim // 2:
        raise ValueError(
            f"sub_keys: got shape {tuple(sub_keys.shape)}, expected [{heads}, 2, n, {key_dim // 2}] for "
            f"queries of shape {tuple(queries.shape)}"
        )
    for name, tensor in (("queries", queries), ("sub_keys", sub_keys)):
        if tensor.dtype != torch.float32:
            raise ValueError(
                f"{name}: got {tensor.dtype}, expected torch.float32; routing is computed in fp32"
            )
    num_slots = sub_keys.shape[2] ** 2
    if not 1 <= k <= num_slots:
        raise ValueError(f"k: got {k}, expected 1 <= k <= n * n = {num_slots}")
    return product_key_topk_reference(queries, sub_keys, k)
