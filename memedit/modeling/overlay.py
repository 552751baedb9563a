"""Overlays: the written rows of a value table, and the owners whose gates decide where they speak.

An overlay holds only the rows that the active patches wrote, so that switching an edit on or off moves a few
MB and never touches the table. Each row belongs to an owner (the subject for which it was written);
memedit_kernels.slot_bag's ownership gate says at which tokens an owner's rows count. All slots of a subject
usually hold one vector: with `rows`, values has each vector once. An owner may have a linear discriminant
besides, for what a sum over slots cannot tell: two names that share most of their slots.
"""

from dataclasses import dataclass

import torch
from memedit_kernels.slot_bag import UNGATED
from torch import Tensor


@dataclass(frozen=True)
class Overlay:
    """The written rows of one value table.

    Attributes:
        slots: int64 [n], ascending, each once.
        values: fp32 [u, dim], added to the base table's rows; may require gradients.
        owners: int64 [n], index into the owners, or UNGATED.
        thresholds: fp32 [num_owners], in [0, 1]: routing mass from which an owner's rows speak.
        owner_names: one name per owner, or empty.
        rows: int64 [n], which of the values each slot holds; None = one for each slot, in their order.
        discriminants: fp32 [num_owners, query_dim + 1], a direction in the space of the layer's queries and
            an offset: an owner's rows speak only where query @ direction + offset >= 0. A row of zeros is
            always open; None = nobody has one.
    """

    slots: Tensor
    values: Tensor
    owners: Tensor
    thresholds: Tensor
    owner_names: tuple[str, ...] = ()
    rows: Tensor | None = None
    discriminants: Tensor | None = None

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
        self._check_values()
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
        self._check_discriminants()
        if self.owner_names and len(self.owner_names) != num_owners:
            raise ValueError(f"owner_names: got {len(self.owner_names)} names, expected {num_owners} or none")

    def _check_values(self) -> None:
        num_rows, rows = len(self.slots), self.rows
        fits = self.values.dim() == 2 and self.values.dtype == torch.float32
        if not fits or (rows is None and len(self.values) != num_rows):
            raise ValueError(
                f"values: got {self.values.dtype} {tuple(self.values.shape)}, expected torch.float32 "
                f"[{num_rows if rows is None else 'u'}, dim]"
            )
        if rows is None:
            return
        if rows.dtype != torch.int64 or rows.shape != (num_rows,):
            raise ValueError(f"rows: got {rows.dtype} {tuple(rows.shape)}, expected torch.int64 [{num_rows}]")
        if num_rows and not 0 <= int(rows.min()) <= int(rows.max()) < len(self.values):
            raise ValueError(f"rows: got an index outside 0 to {len(self.values) - 1}, the rows of values")

    def _check_discriminants(self) -> None:
        given = self.discriminants
        if given is None:
            return
        fits = given.dim() == 2 and given.dtype == torch.float32 and given.shape[1] >= 2
        if not fits or len(given) != len(self.thresholds):
            raise ValueError(
                f"discriminants: got {given.dtype} {tuple(given.shape)}, expected torch.float32 "
                f"[{len(self.thresholds)}, query_dim + 1]"
            )

    def values_at(self, places: Tensor) -> Tensor:
        """Return what some of the slots hold.

        Args:
            places: int64 of any shape, each an index into slots.

        Returns:
            fp32 [*places, dim].
        """
        return self.values[places if self.rows is None else self.rows[places]]

    @property
    def num_rows(self) -> int:
        """Number of written slots."""
        return len(self.slots)
