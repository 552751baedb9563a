# SPDX-License-Identifier: Apache-2.0
"""Finding slots by product keys, in plain torch: the k best of n * n without scoring them all.

Part of the code that an exported model carries; memedit itself searches with its kernels. Sums and ties come
out as there, so that the same weights on the same CPU give the same slots and scores to the bit.

Source: product keys, Lample et al. 2019 (arXiv 1907.05242), section 3.1.
"""

import torch
from torch import Tensor

# Scores held at a time: they bound the temporary memory.
_MAX_SCORES = 1 << 21


def best_slots(queries: Tensor, sub_keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k slots with the highest scores for each token and head.

    Slot i * n + j scores <first half of the query, sub_keys[h, 0, i]> + <second half, sub_keys[h, 1, j]>.

    Args:
        queries: fp32 [tokens, heads, key_dim].
        sub_keys: fp32 [heads, 2, n, key_dim / 2].
        k: slots per head.

    Returns:
        slots int64 [tokens, heads, k] and scores fp32 [tokens, heads, k], best first; of equal scores the
        lower slot first.
    """
    heads, _, num_keys, _ = sub_keys.shape
    slots, scores = [], []
    for part in queries.split(max(1, _MAX_SCORES // (heads * 2 * num_keys))):
        halves = _half_scores(part, sub_keys, k)
        keys = _places_of_best(halves, k)
        found = _best_pairs(_by_token(halves.gather(-1, keys), heads), _by_token(keys, heads), num_keys)
        slots.append(found[0])
        scores.append(found[1])
    return torch.cat(slots), torch.cat(scores)


def _half_scores(queries: Tensor, sub_keys: Tensor, k: int) -> Tensor:
    """Score halves against sub-keys: fp32 [heads * 2, tokens, n], whatever autocast says."""
    heads, _, num_keys, half = sub_keys.shape
    # The last bits of a product depend on a column's place, so the columns stand as in memedit: groups of
    # neighbours, all first members, then all second members, the last group filled up with its last key.
    group = 1 << ((num_keys // k).bit_length() - 1) // 2
    first = torch.arange(-(-num_keys // group), device=queries.device) * group
    member = torch.arange(group, device=queries.device)[:, None]
    columns = (first + member).flatten().clamp(max=num_keys - 1)
    keys = sub_keys[:, :, columns].reshape(heads * 2, -1, half)
    halves = queries.reshape(len(queries), heads * 2, half).transpose(0, 1)
    with torch.autocast(queries.device.type, enabled=False):
        scores = torch.bmm(halves, keys.mT)
    return scores[..., columns.argsort(stable=True)[:num_keys]]


def _places_of_best(scores: Tensor, k: int) -> Tensor:
    """Places of the k best of each row, best first, of equal ones the lower place first."""
    # torch.topk promises nothing about ties: one more than is kept shows where there are any.
    best, places = scores.topk(min(k + 1, scores.shape[-1]), dim=-1)
    tied = (best[..., 1:] == best[..., :-1]).any(-1)
    if tied.any():
        order = scores[tied].sort(dim=-1, descending=True, stable=True).indices
        places[tied] = order[:, : places.shape[-1]]
    return places[..., :k]


def _by_token(best: Tensor, heads: int) -> Tensor:
    """[heads * 2, tokens, k] to [tokens, heads, 2, k]."""
    by_token: Tensor = best.unflatten(0, (heads, 2)).permute(2, 0, 1, 3)
    return by_token


def _best_pairs(scores: Tensor, keys: Tensor, num_keys: int) -> tuple[Tensor, Tensor]:
    """Choose the k best of the pairs of the k best keys of each half, both [tokens, heads, 2, k]."""
    k = scores.shape[-1]
    # Only pairs of ranks with (a + 1) * (b + 1) <= k can be among the k best: the others have k before them.
    pairs = [(a, b) for a in range(k) for b in range(k // (a + 1))]
    ranks = torch.tensor(pairs, device=scores.device).T
    first, second = (scores[:, :, half, ranks[half]].double() for half in (0, 1))
    slots = keys[:, :, 0, ranks[0]] * num_keys + keys[:, :, 1, ranks[1]]
    sums = first + second
    # What rounding took from each sum: equal sums are told apart by it, exactly (Knuth's two-sum).
    taken = sums - first
    errors = (first - (sums - taken)) + (second - taken)
    order = slots.argsort(dim=-1)
    for criterion in (errors, sums):
        by_criterion = criterion.gather(-1, order).argsort(dim=-1, descending=True, stable=True)
        order = order.gather(-1, by_criterion)
    order = order[..., :k]
    return slots.gather(-1, order), sums.gather(-1, order).to(scores.dtype)
