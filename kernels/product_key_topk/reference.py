"""The product-key search in plain torch: what the CPU runs, and what the Triton kernels are compared with.

A query's two halves are scored against n sub-keys each; slot i*n + j scores s1[i] + s2[j]. The k best of the
n*n sums lie among the k best of each half (best_keys), and there only among some k*log(k) pairs (best_pairs).

Ties have one answer on every device: the exact sums of the two scores are compared, and equal sums go to the
lower slot. That is also what makes the pruning exact: a pair that another one dominates has a lower sum, or
the same sum of the same scores and a higher slot.
"""

import torch
from memedit_kernels.product_key_topk.best_keys import best_keys, group_size, grouped_columns
from memedit_kernels.product_key_topk.best_pairs import best_pairs
from memedit_kernels.product_key_topk.half_scores import half_scores
from torch import Tensor

# Scores looked at in one go: bounds the temporary memory to some 40 MB, and keeps most of it in the cache.
_CHUNK_ELEMENTS = 1 << 21


def product_key_topk_reference(queries: Tensor, sub_keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best slots of each token and head; product_key_topk checks shapes, types and k.

    Args:
        queries: fp32, bf16, fp16 or fp64 [tokens, heads, key_dim].
        sub_keys: in the type of queries [heads, 2, n, key_dim / 2].
        k: slots per head.

    Returns:
        slots int64 [tokens, heads, k] and scores fp32 (fp64) [tokens, heads, k], best first.

    Raises:
        ValueError: when a score is not finite.
    """
    num_tokens, heads, _ = queries.shape
    num_keys = sub_keys.shape[2]
    dtype = torch.promote_types(queries.dtype, torch.float32)
    group = 1 if dtype == torch.float64 else group_size(num_keys, k)
    sub_keys = sub_keys.to(dtype)[:, :, grouped_columns(num_keys, group, queries.device)]
    slots = torch.empty(num_tokens, heads, k, dtype=torch.int64, device=queries.device)
    scores = torch.empty(num_tokens, heads, k, dtype=dtype, device=queries.device)
    chunk = max(1, _CHUNK_ELEMENTS // (heads * 2 * num_keys))
    for start in range(0, num_tokens, chunk):
        part = half_scores(queries[start : start + chunk], sub_keys)
        best, keys = (
            _by_token(tensor, heads) for tensor in best_keys(part.flatten(0, 2), num_keys, k, group)
        )
        found, sums = best_pairs(best, keys, num_keys)
        slots[start : start + chunk] = found.view(-1, heads, k)
        scores[start : start + chunk] = sums.view(-1, heads, k)
    return slots, scores


def _by_token(best: Tensor, heads: int) -> Tensor:
    """[heads * 2 * tokens, k] to [tokens * heads, 2, k]."""
    k = best.shape[-1]
    return best.view(heads, 2, -1, k).permute(2, 0, 1, 3).reshape(-1, 2, k)
