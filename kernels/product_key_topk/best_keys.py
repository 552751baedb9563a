"""The k best sub-keys of each half, exact, ties to the lower number; much faster than one top-k of all n.

The keys are split into groups of neighbours. Each of the k best keys lies in one of the k groups whose best
keys are best: another group has k keys before its own. So a maximum per group, a top-k of the groups and a
top-k of their members replace a top-k over all n, and groups of about sqrt(n / k) keys make both small. That
groups of equal maxima are ordered by their number agrees with the rule for keys, for groups are neighbours.

The scores come with their columns in another order (`grouped_columns`): all groups' first members, then all
groups' second members, and so on. There a maximum per group is an element-wise maximum of whole slices, which
is memory-bound, where a maximum over a few neighbours is not.
"""

import math

import torch
from memedit_kernels.product_key_topk.packing import packed, unpacked
from torch import Tensor


def group_size(num_keys: int, k: int) -> int:
    """Return how many neighbouring keys make a group; 1 = no groups, where they would save nothing."""
    # The power of two below sqrt(n / k): it divides the usual n, so that no column is filled up.
    return 1 << ((num_keys // k).bit_length() - 1) // 2


def grouped_columns(num_keys: int, group: int, device: torch.device) -> Tensor:
    """Number of the key that belongs in each column: member m of group g in column m * num_groups + g.

    Returns:
        int64 [group * num_groups]; the last group is filled up with its last key.
    """
    num_groups = -(-num_keys // group)
    first = torch.arange(num_groups, device=device) * group
    member = torch.arange(group, device=device)[:, None]
    return (first + member).flatten().clamp_(max=num_keys - 1)


def best_keys(scores: Tensor, num_keys: int, k: int, group: int) -> tuple[Tensor, Tensor]:
    """Find the k best keys of each row.

    Args:
        scores: fp32 (or fp64, for gradient checks: not packed, so sorted whole, and group is 1)
            [rows, group * num_groups], finite, columns as grouped_columns says; what fills the last group up
            is overwritten.
        num_keys: n.
        k: 1 <= k <= n.
        group: keys in a group.

    Returns:
        scores [rows, k], best first, ties to the lower key; and the numbers of the keys, int64 [rows, k].
    """
    if scores.dtype == torch.float64:
        best, keys = scores.sort(dim=-1, descending=True, stable=True)
        return best[:, :k], keys[:, :k]
    rows, num_columns = scores.shape
    num_groups = num_columns // group
    if group == 1:
        candidates = packed(scores, torch.arange(num_keys, device=scores.device))
    else:
        members = scores.view(rows, group, num_groups)
        members[:, num_keys - (num_groups - 1) * group :, -1] = -math.inf
        candidates = _members_of_best_groups(members, k)
    return unpacked(candidates.topk(k, dim=-1).values)


def _members_of_best_groups(members: Tensor, k: int) -> Tensor:
    """Packed scores of all keys in the k best groups: int64 [rows, group * k]."""
    rows, group, num_groups = members.shape
    every_group = torch.arange(num_groups, device=members.device)
    member = torch.arange(group, device=members.device)[:, None]
    groups = packed(members.amax(dim=1), every_group).topk(k, dim=-1, sorted=False).indices[:, None]
    columns = (groups + member * num_groups).flatten(1)
    scores = members.view(rows, -1).gather(-1, columns)
    return packed(scores, (groups * group + member).flatten(1))
