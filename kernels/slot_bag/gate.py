"""The ownership gate in torch: which written rows speak at a token, and how loud.

Each written row belongs to an owner (the subject for which it was written). At a token, an owned row counts
only when the token's routing agrees with one owner: the owner with the most routing mass is chosen, and if
that mass reaches the owner's threshold, its rows alone speak, normalised by its mass; otherwise no owned row
does. Most look-ups hit no written row at all, so everything here works on a list of the hits.
"""

import torch
from memedit_kernels.arguments import (
    check_count,
    check_device,
    check_lookups,
    check_range,
    check_tensor,
    check_weights,
)
from torch import Tensor
from torch.nn import functional

UNGATED = -1
"""Owner of a written row that no gate guards: it always counts with its plain routing weight."""

NOT_WRITTEN = -2
"""Owner of a look-up that hit no written row."""


def lookup_owners(owners: Tensor, rows: Tensor) -> Tensor:
    """Return the owner of every look-up: an owner's index, UNGATED, or NOT_WRITTEN where rows is -1.

    Args:
        owners: int64 [n], per overlay row.
        rows: int64 [tokens, j] from slot_rows.

    Returns:
        int64 [tokens, j].

    Raises:
        ValueError: when types do not fit, or a row is below -1 or not below n.
    """
    check_tensor("owners", owners, 1, (torch.int64,), "torch.int64 [n]")
    check_tensor("rows", rows, 2, (torch.int64,), "torch.int64 [tokens, j]")
    check_device(owners=owners, rows=rows)
    check_range("rows", rows, len(owners), lowest=-1)
    return owners_of_rows(owners, rows)


def owners_of_rows(owners: Tensor, rows: Tensor) -> Tensor:
    """Do what lookup_owners does for rows that are known to fit."""
    if len(owners) == 0:
        return torch.full_like(rows, NOT_WRITTEN)
    return owners[rows.clamp(min=0)].masked_fill_(rows < 0, NOT_WRITTEN)


def ownership_gate(
    owner_per_lookup: Tensor, weights: Tensor, thresholds: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Let one owner's rows speak at each token, or none.

    The mass of an owner at a token is the sum of the weights of its look-ups, divided by heads (so 1 at
    most). The owner with the largest mass (ties: the lowest index) is open when its mass reaches its
    threshold. Its look-ups then keep weight / (sum of its weights); all other owned look-ups get 0; ungated
    look-ups keep their weight. Differentiable in the weights.

    Args:
        owner_per_lookup: int64 [tokens, j]: owner, UNGATED or NOT_WRITTEN.
        weights: fp32 (fp64 for gradient checks) [tokens, j], routing weights >= 0, summing to 1 per head.
        thresholds: fp32 (fp64) [num_owners].
        heads: number of heads in j.

    Returns:
        gated weights [tokens, j] (0 for look-ups that are not written), best owner int64 [tokens] (-1 = no
        owned look-up, given whether or not its gate is open), and its mass [tokens].

    Raises:
        ValueError: when shapes, types, devices, owners, weights or heads do not fit.
    """
    _check_gate(owner_per_lookup, weights, thresholds, heads)
    hit = owner_per_lookup != NOT_WRITTEN
    token_of = hit.nonzero()[:, 0]
    speaking, best_owner, mass = gate_hits(
        token_of, owner_per_lookup[hit], weights[hit], thresholds, heads, len(weights)
    )
    return torch.zeros_like(weights).masked_scatter(hit, speaking), best_owner, mass


def _check_gate(owner_per_lookup: Tensor, weights: Tensor, thresholds: Tensor, heads: int) -> None:
    check_lookups(owner_per_lookup, weights, name="owner_per_lookup")
    types = (torch.float32, torch.float64)
    check_tensor("thresholds", thresholds, 1, types, "torch.float32 [num_owners]")
    check_count("heads", heads, 1)
    check_device(owner_per_lookup=owner_per_lookup, weights=weights, thresholds=thresholds)
    check_range("owner_per_lookup", owner_per_lookup, len(thresholds), lowest=NOT_WRITTEN)
    check_weights(weights)


def gate_hits(
    token_of: Tensor, owner_of: Tensor, weight_of: Tensor, thresholds: Tensor, heads: int, num_tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what ownership_gate does for a list of hits.

    Args:
        token_of: int64 [hits], ascending.
        owner_of: int64 [hits], owner or UNGATED.
        weight_of: [hits], routing weights.
        thresholds: [num_owners].
        heads: number of heads in a token's look-ups.
        num_tokens: tokens that token_of counts.

    Returns:
        gated weights [hits], best owner int64 [num_tokens] or -1, and its mass [num_tokens].
    """
    owned, num_owners = owner_of >= 0, len(thresholds)
    gated = weight_of.masked_fill(owned, 0.0)
    best_owner = torch.full((num_tokens,), -1, dtype=torch.int64, device=weight_of.device)
    token_of, owner_of, weight_of = token_of[owned], owner_of[owned], weight_of[owned]
    if len(token_of) == 0:
        return gated, best_owner, weight_of.new_zeros(num_tokens)
    # One group for each (token, owner) that occurs; groups are in order of token, then owner.
    groups, group_of, group_weight = _grouped(token_of * num_owners + owner_of, weight_of)
    group_token, group_owner = groups // num_owners, groups % num_owners
    with torch.no_grad():
        best_weight = weight_of.new_zeros(num_tokens).scatter_reduce(0, group_token, group_weight, "amax")
        is_best = group_weight == best_weight[group_token]
        lowest = torch.full_like(best_owner, num_owners)
        lowest.scatter_reduce_(0, group_token[is_best], group_owner[is_best], "amin")
        best_owner = torch.where(lowest < num_owners, lowest, best_owner)
        # Divided by a tensor, for on a GPU torch multiplies by the reciprocal of a plain number instead.
        mass = best_weight / best_weight.new_full((), heads)
        is_open = (best_weight > 0) & (mass >= thresholds.to(mass.dtype)[best_owner.clamp(min=0)])
        speaks = is_open[token_of] & (owner_of == best_owner[token_of])
    # Where an owner is silent its sum may be 0, and 0 / 0 would reach the gradient.
    total = functional.embedding(group_of, group_weight.unsqueeze(1)).squeeze(1).masked_fill(~speaks, 1.0)
    return gated.masked_scatter(owned, (weight_of / total).masked_fill(~speaks, 0.0)), best_owner, mass


def _grouped(keys: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct keys, ascending, the group of each hit, and each group's sum in the order of its hits.

    index_add and the gradient of an index add with atomics, in no fixed order; bags and embeddings do not.
    """
    ordered, order = keys.sort(stable=True)
    groups, place, counts = ordered.unique_consecutive(return_inverse=True, return_counts=True)
    group_of = torch.empty_like(order).scatter_(0, order, place)
    sums = functional.embedding_bag(order, weights.unsqueeze(1), counts.cumsum(0) - counts, mode="sum")
    return groups, group_of, sums.squeeze(1)


def gate_gradient(grad_gated: Tensor, gated: Tensor, owner_per_lookup: Tensor, weights: Tensor) -> Tensor:
    """Return the gradient of the weights from that of the gated weights; which gates are open is constant.

    A speaking look-up has g = w / S with S the sum of its owner's weights, so dw = (dg - sum(g * dg)) / S. An
    ungated look-up has dw = dg, all others have 0.

    Args:
        grad_gated: [tokens, j].
        gated: [tokens, j], what the gate returned.
        owner_per_lookup: int64 [tokens, j]: owner, UNGATED or NOT_WRITTEN.
        weights: [tokens, j], what the gate was given.

    Returns:
        [tokens, j].
    """
    if weights.numel() == 0:
        return torch.zeros_like(weights)
    owned = owner_per_lookup >= 0
    # One owner at most has weights above 0, and its largest never underflows. Its zeros speak too.
    speaker = owner_per_lookup.masked_fill(~owned | (gated <= 0), -1).amax(-1, keepdim=True)
    speaks = owned & (owner_per_lookup == speaker)
    total = weights.masked_fill(~speaks, 0.0).sum(-1, keepdim=True)
    mean = (grad_gated * gated).masked_fill(~speaks, 0.0).sum(-1, keepdim=True)
    plain = grad_gated.masked_fill(owner_per_lookup != UNGATED, 0.0)
    return torch.where(speaks, (grad_gated - mean) / total, plain)
