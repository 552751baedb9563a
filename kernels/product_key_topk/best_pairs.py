"""The k best pairs of the two halves' best keys, by the exact sum of their scores."""

from functools import cache

import torch
from torch import Tensor


@cache
def rank_pairs(k: int, device: torch.device) -> Tensor:
    """List the pairs of ranks (a, b) with (a + 1) * (b + 1) <= k, the only ones that can be among the k best.

    Every other pair comes after (a + 1) * (b + 1) - 1 >= k pairs whose halves both rank at least as high.

    Returns:
        int64 [2, pairs].

    Source: Lample et al. 2019 (arXiv 1907.05242), section 3.2, which takes all k * k pairs.
    """
    pairs = [(first, second) for first in range(k) for second in range(k // (first + 1))]
    return torch.tensor(pairs, device=device).T.contiguous()


def best_pairs(scores: Tensor, keys: Tensor, num_keys: int) -> tuple[Tensor, Tensor]:
    """Choose the k best of the pairs of the k best keys of each half.

    Args:
        scores: fp32 (fp64 for gradient checks) [rows, 2, k], best first.
        keys: int64 [rows, 2, k], numbers of the keys with these scores; of equal scores, the lower first.
        num_keys: n; slot i * n + j is the pair of keys i and j.

    Returns:
        slots int64 [rows, k], by the exact sum of the two scores, highest first, equal sums by slot, lower
        first; and the sums, rounded to the type of scores.
    """
    k = scores.shape[-1]
    ranks = rank_pairs(k, scores.device)
    halves = scores.double()
    first, second = (halves[:, half].index_select(-1, ranks[half]) for half in (0, 1))
    sums = first + second
    # One more than is kept shows where torch.topk, which promises nothing about ties, chose among equals.
    best, places = sums.topk(min(k + 1, sums.shape[-1]), dim=-1)
    slots = _slots(keys, ranks[:, places[:, :k]], num_keys)
    tied = (best[:, 1:] == best[:, :-1]).any(dim=-1).nonzero().squeeze(1)
    if len(tied):
        order = _exact_order(
            first[tied], second[tied], _slots(keys[tied], ranks[:, None].expand(-1, len(tied), -1), num_keys)
        )
        slots[tied] = _slots(keys[tied], ranks[:, order[:, :k]], num_keys)
    return slots, best[:, :k].to(scores.dtype)


def _slots(keys: Tensor, ranks: Tensor, num_keys: int) -> Tensor:
    """Slots of pairs of ranks [2, rows, pairs], by the keys [rows, 2, k] that have these ranks."""
    return keys[:, 0].gather(-1, ranks[0]) * num_keys + keys[:, 1].gather(-1, ranks[1])


def _exact_order(first: Tensor, second: Tensor, slots: Tensor) -> Tensor:
    """Order of the pairs by first + second without rounding, then by slot; all fp64 [rows, pairs].

    Two numbers with equal sums are told apart by what rounding took from each (Knuth's two-sum).
    """
    sums = first + second
    taken = sums - first
    errors = (first - (sums - taken)) + (second - taken)
    order = slots.argsort(dim=-1)
    for criterion in (errors, sums):
        by_criterion = criterion.gather(-1, order).argsort(dim=-1, descending=True, stable=True)
        order = order.gather(-1, by_criterion)
    return order
