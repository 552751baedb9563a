"""Overlays: the written rows of a value table, and the ownership gate that decides where they speak.

An overlay holds only the rows that the active patches wrote, so that switching an edit on or off moves a few
MB and never touches the table. Each row belongs to an owner (the subject for which it was written). At a
token, an owned row counts only when the token's routing agrees with one owner: the owner with the most
routing mass is chosen, and if that mass reaches the owner's threshold, its rows alone speak, normalised by
its mass; otherwise no owned row does. Most tokens hit no written row at all, so everything here works on the
hits, not on [tokens, owners].
"""

from dataclasses import dataclass

import torch
from torch import Tensor

UNGATED = -1
"""Owner of a written row that no gate guards: it always counts with its plain routing weight."""

NOT_WRITTEN = -2
"""Owner of a look-up that hit no written row."""


@dataclass(frozen=True)
class Overlay:
    """The written rows of one value table.

    Attributes:
        slots: int64 [n], ascending, each once.
        values: fp32 [n, dim], added to the base table's rows; may require gradients.
        owners: int64 [n], index into the owners, or UNGATED.
        thresholds: fp32 [num_owners], in [0, 1]: routing mass from which an owner's rows speak.
        owner_names: one name per owner, or empty.
    """

    slots: Tensor
    values: Tensor
    owners: Tensor
    thresholds: Tensor
    owner_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes, types and order."""
        num_rows, num_owners = len(self.slots), len(self.thresholds)
        if self.slots.dtype != torch.int64 or self.slots.dim() != 1:
            raise ValueError(
                f"slots: got {self.slots.dtype} {tuple(self.slots.shape)}, expected torch.int64 [n]"
            )
        if bool((self.slots[1:] <= self.slots[:-1]).any()) or bool((self.slots[:1] < 0).any()):
            raise ValueError(
                "slots: expected ascending slot ids, each once, from 0 on; sort them and drop repeats"
            )
        if self.values.dim() != 2 or len(self.values) != num_rows or self.values.dtype != torch.float32:
            raise ValueError(
                f"values: got {self.values.dtype} {tuple(self.values.shape)}, expected torch.float32 "
                f"[{num_rows}, dim]"
            )
        if self.owners.shape != (num_rows,) or self.owners.dtype != torch.int64:
            raise ValueError(
                f"owners: got {self.owners.dtype} {tuple(self.owners.shape)}, expected torch.int64 "
                f"[{num_rows}]"
            )
        if self.thresholds.dim() != 1 or self.thresholds.dtype != torch.float32:
            raise ValueError(
                f"thresholds: got {self.thresholds.dtype} {tuple(self.thresholds.shape)}, expected "
                "torch.float32 [n]"
            )
        if num_rows and not UNGATED <= int(self.owners.min()) <= int(self.owners.max()) < num_owners:
            raise ValueError(
                f"owners: got an index outside -1 to {num_owners - 1}; thresholds has one entry an owner"
            )
        if self.owner_names and len(self.owner_names) != num_owners:
            raise ValueError(f"owner_names: got {len(self.owner_names)} names, expected {num_owners} or none")

    @property
    def num_rows(self) -> int:
        """Number of written rows."""
        return len(self.slots)


def written_rows(overlay_slots: Tensor, slots: Tensor) -> Tensor:
    """Return the overlay row of every slot, -1 where the slot is not written.

    Args:
        overlay_slots: int64 [n], ascending.
        slots: int64, any shape.

    Returns:
        int64 in the shape of slots.
    """
    if len(overlay_slots) == 0:
        return torch.full_like(slots, -1)
    rows = torch.searchsorted(overlay_slots, slots.contiguous()).clamp_(max=len(overlay_slots) - 1)
    return rows.masked_fill_(overlay_slots[rows] != slots, -1)


def lookup_owners(owners: Tensor, rows: Tensor) -> Tensor:
    """Return the owner of every look-up: an owner's index, UNGATED, or NOT_WRITTEN where rows is -1.

    Args:
        owners: int64 [n], per overlay row.
        rows: int64 [tokens, j] from written_rows.

    Returns:
        int64 [tokens, j].
    """
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
    look-ups keep their weight.

    Args:
        owner_per_lookup: int64 [tokens, j]: owner, UNGATED or NOT_WRITTEN.
        weights: [tokens, j], routing weights >= 0, summing to 1 per head.
        thresholds: [num_owners].
        heads: number of heads in j.

    Returns:
        gated weights [tokens, j] (0 for look-ups that are not written), best owner int64 [tokens] (-1 = no
        owned look-up, given whether or not its gate is open), and its mass [tokens].
    """
    num_tokens, num_owners = len(weights), len(thresholds)
    gated = torch.where(owner_per_lookup == UNGATED, weights, torch.zeros_like(weights))
    best_owner = torch.full((num_tokens,), -1, dtype=torch.int64, device=weights.device)
    token_of, column_of = (owner_per_lookup >= 0).nonzero(as_tuple=True)
    if len(token_of) == 0:
        return gated, best_owner, weights.new_zeros(num_tokens)
    owner_of, weight_of = owner_per_lookup[token_of, column_of], weights[token_of, column_of]
    # One group for each (token, owner) that occurs; groups are in order of token, then owner.
    groups, group_of = torch.unique(token_of * num_owners + owner_of, return_inverse=True)
    group_weight = weights.new_zeros(len(groups)).index_add(0, group_of, weight_of)
    group_token, group_owner = groups // num_owners, groups % num_owners
    with torch.no_grad():
        best_weight = weights.new_zeros(num_tokens).scatter_reduce(0, group_token, group_weight, "amax")
        is_best = group_weight == best_weight[group_token]
        lowest = torch.full_like(best_owner, num_owners)
        lowest.scatter_reduce_(0, group_token[is_best], group_owner[is_best], "amin")
        best_owner = torch.where(lowest < num_owners, lowest, best_owner)
        mass = best_weight / heads
        is_open = (best_weight > 0) & (mass >= thresholds.to(mass.dtype)[best_owner.clamp(min=0)])
        speaks = is_open[token_of] & (owner_of == best_owner[token_of])
    normalised = weight_of[speaks] / group_weight[group_of[speaks]]
    gated = gated.index_put((token_of[speaks], column_of[speaks]), normalised)
    return gated, best_owner, mass
