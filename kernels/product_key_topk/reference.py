"""The product-key search in plain torch: what the CPU runs, and what a faster backend is compared with.

A query's two halves are scored against n sub-keys each; slot i*n + j scores s1[i] + s2[j]. The k best of the
n*n sums lie among the k best of each half, and there only among the pairs of ranks (a, b) with
(a+1)*(b+1) <= k: every other pair is beaten by k pairs that are at least as good in both halves. So some
k*log(k) sums are looked at instead of n*n.

Ties have one answer on every device: sums are compared in float64 (where the sum of two float32 scores is
exact unless they are some nine orders of magnitude apart), and equal sums go to the lower slot id. That is
also what makes the pruning above exact: of equals, the pair that dominates always has the lower ranks, hence
the lower id.
"""

import torch
from torch import Tensor

# Scores looked at in one go; bounds the temporary memory to some 100 MB whatever the number of tokens.
_CHUNK_ELEMENTS = 1 << 22


def product_key_topk_reference(queries: Tensor, sub_keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best slots of each token and head; arguments are checked by the public function.

    Args:
        queries: fp32 [tokens, heads, key_dim].
        sub_keys: fp32 [heads, 2, n, key_dim / 2].
        k: slots per head, 1 <= k <= n * n.

    Returns:
        slots int64 [tokens, heads, k] and scores fp32 [tokens, heads, k], best first.

    Raises:
        ValueError: when a score is NaN or infinite.
    """
    num_tokens, heads, _ = queries.shape
    chunk = max(1, _CHUNK_ELEMENTS // (heads * 2 * sub_keys.shape[2]))
    parts = [
        _topk_chunk(queries[start : start + chunk], sub_keys, k) for start in range(0, num_tokens, chunk)
    ]
    if not parts:
        empty = queries.new_empty(0, heads, k)
        return empty.to(torch.int64), empty.float()
    if len(parts) == 1:
        return parts[0]
    return torch.cat([slots for slots, _ in parts]), torch.cat([scores for _, scores in parts])


def _topk_chunk(queries: Tensor, sub_keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    num_tokens, heads, key_dim = queries.shape
    num_keys = sub_keys.shape[2]
    halves = queries.reshape(num_tokens, heads * 2, key_dim // 2).transpose(
        0, 1
    )  # [heads*2, tokens, key_dim/2]
    half_scores = torch.bmm(halves, sub_keys.reshape(heads * 2, num_keys, key_dim // 2).mT)
    half_scores = half_scores.view(heads, 2, num_tokens, num_keys)
    _refuse_non_finite(half_scores)
    with torch.no_grad():
        ranked = _ranked_keys(half_scores, min(k, num_keys))  # [heads, 2, tokens, kept]
        first, second = _best_pairs(half_scores.detach(), ranked, k)
    # Gathered again outside no_grad, so that gradients reach the queries and the sub-keys.
    scores = half_scores[:, 0].gather(-1, first) + half_scores[:, 1].gather(-1, second)
    return (first * num_keys + second).transpose(0, 1), scores.transpose(0, 1)


def _refuse_non_finite(half_scores: Tensor) -> None:
    if half_scores.numel() == 0:
        return
    low, high = torch.aminmax(half_scores.detach())
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        kind = "NaN" if bool(torch.isnan(low)) else "infinite"
        raise ValueError(
            f"queries x sub_keys gave {kind} scores; expected finite ones. Look for NaN or overflow in the "
            "hidden states or the weights of the query projection."
        )


def _ranked_keys(half_scores: Tensor, kept: int) -> Tensor:
    """Indices of the `kept` best sub-keys, best first, ties to the lower index: [..., kept]."""
    num_keys = half_scores.shape[-1]
    # One more than is kept shows where torch.topk, which promises nothing about ties, chose among equals.
    best, indices = half_scores.topk(min(kept + 1, num_keys), dim=-1)
    indices = indices[..., :kept].sort(dim=-1).values
    by_score = half_scores.gather(-1, indices).sort(dim=-1, descending=True, stable=True).indices
    ranked = indices.gather(-1, by_score)
    if kept < num_keys:
        undecided = best[..., kept - 1] == best[..., kept]
        if bool(undecided.any()):
            in_order = half_scores[undecided].sort(dim=-1, descending=True, stable=True).indices
            ranked[undecided] = in_order[..., :kept]
    return ranked


def _best_pairs(half_scores: Tensor, ranked: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Sub-key indices (first, second) of the k best pairs, best first: two [heads, tokens, k]."""
    num_keys, kept = half_scores.shape[-1], ranked.shape[-1]
    ranks = [(a, b) for a in range(kept) for b in range(min(kept, k // (a + 1)))]
    rank_first = torch.tensor([a for a, _ in ranks], device=ranked.device)
    rank_second = torch.tensor([b for _, b in ranks], device=ranked.device)
    best_scores = half_scores.gather(-1, ranked).double()
    sums = best_scores[:, 0][..., rank_first] + best_scores[:, 1][..., rank_second]  # [heads, tokens, pairs]
    slots = ranked[:, 0][..., rank_first] * num_keys + ranked[:, 1][..., rank_second]
    slots, by_id = slots.sort(dim=-1)
    order = sums.gather(-1, by_id).argsort(dim=-1, descending=True, stable=True)[..., :k]
    chosen = slots.gather(-1, order)
    return chosen // num_keys, chosen % num_keys
