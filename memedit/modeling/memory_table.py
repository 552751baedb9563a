"""The value table of a memory layer: base rows that never change, and the overlay of written rows on top.

A retrofit has no base rows (they would all be zeros). The overlay lives in buffers, so that save_pretrained
stores it and a forward reads it in place; it stays in fp32 whatever the model's type is. Several memory
layers may share one table.
"""

from typing import NamedTuple

import torch
from memedit_kernels.slot_bag import SlotOverlay, lookup_owners, ownership_gate, slot_bag
from memedit_kernels.slot_rows import slot_rows
from torch import Tensor, nn

from memedit.modeling.configuration import MemoryLlamaConfig
from memedit.modeling.overlay import Overlay

OVERLAY_BUFFERS = ("overlay_slots", "overlay_values", "overlay_owners", "overlay_thresholds", "overlay_rows")


class GatedLookup(NamedTuple):
    """What a token's look-ups found in the overlay.

    Attributes:
        rows: int64 [tokens, j], index into the overlay's slots or -1.
        weights: [tokens, j], routing weights after the ownership gate.
        best_owner: int64 [tokens], owner with the largest mass, -1 = none.
        mass: [tokens], that owner's share of the routing, 0 to 1.
    """

    rows: Tensor
    weights: Tensor
    best_owner: Tensor
    mass: Tensor


class MemoryTable(nn.Module):
    """Base values [slots, value_dim] (or none) and the overlay of written rows."""

    values: nn.Parameter | None
    overlay_slots: Tensor | None
    overlay_values: Tensor | None
    overlay_owners: Tensor | None
    overlay_thresholds: Tensor | None
    overlay_rows: Tensor | None

    def __init__(self, config: MemoryLlamaConfig, table_index: int) -> None:
        super().__init__()
        self.num_slots, self.value_dim, self.heads = config.num_slots, config.value_dim, config.memory_heads
        base = None if config.memory_empty_base else nn.Parameter(torch.empty(self.num_slots, self.value_dim))
        self.register_parameter("values", base)
        for name in OVERLAY_BUFFERS:
            self.register_buffer(name, None)
        self.owner_names: tuple[str, ...] = tuple(config.memory_overlay_owner_names[table_index])
        num_rows = config.memory_overlay_rows[table_index]
        if num_rows:
            num_owners = config.memory_overlay_owners[table_index]
            num_values = config.memory_overlay_values[table_index]
            self.overlay_slots = torch.arange(num_rows)
            self.overlay_values = torch.zeros(num_values or num_rows, self.value_dim, dtype=torch.float32)
            self.overlay_rows = torch.zeros(num_rows, dtype=torch.int64) if num_values else None
            self.overlay_owners = torch.zeros(num_rows, dtype=torch.int64)
            self.overlay_thresholds = torch.zeros(num_owners, dtype=torch.float32)

    @property
    def is_empty(self) -> bool:
        """Whether there is neither a base table nor a written row, so that nothing can come out."""
        return self.values is None and self.overlay_slots is None

    @property
    def overlay(self) -> Overlay | None:
        """The written rows, None when there are none."""
        written = self._written_rows()
        if written is None or written.owners is None or written.thresholds is None:
            return None
        return Overlay(
            written.slots,
            written.values,
            written.owners,
            written.thresholds,
            self.owner_names,
            self.overlay_rows,
        )

    def set_overlay(self, overlay: Overlay | None) -> None:
        """Put these written rows in place of the present ones; None, or no rows, takes them away.

        The tensors are used as they are, not copied: gradients reach overlay.values when it requires them.

        Raises:
            ValueError: when a slot lies outside the table or the width does not fit.
        """
        if overlay is None or overlay.num_rows == 0:
            for name in OVERLAY_BUFFERS:
                self.register_buffer(name, None)
            self.owner_names = ()
            return
        if int(overlay.slots[-1]) >= self.num_slots:
            raise ValueError(
                f"overlay.slots: got slot {int(overlay.slots[-1])}, expected below {self.num_slots}"
            )
        if overlay.values.shape[1] != self.value_dim:
            raise ValueError(
                f"overlay.values: got width {overlay.values.shape[1]}, expected {self.value_dim}"
            )
        self.register_buffer("overlay_slots", overlay.slots)
        self.register_buffer("overlay_values", overlay.values)
        self.register_buffer("overlay_owners", overlay.owners)
        self.register_buffer("overlay_thresholds", overlay.thresholds)
        self.register_buffer("overlay_rows", overlay.rows)
        self.owner_names = overlay.owner_names

    def look_up_overlay(self, slots: Tensor, weights: Tensor) -> GatedLookup | None:
        """Find the written rows among these look-ups and let the ownership gate weigh them.

        Args:
            slots: int64 [tokens, heads * k].
            weights: fp32 [tokens, heads * k].

        Returns:
            The look-ups, None when the table has no overlay.
        """
        written = self._written_rows()
        return None if written is None else _gated(written, slot_rows(slots, written.slots), weights)

    def forward(self, slots: Tensor, weights: Tensor) -> Tensor:
        """Return the bag of each token: base rows and written rows, weighted.

        Args:
            slots: int64 [tokens, heads * k].
            weights: fp32 [tokens, heads * k].

        Returns:
            fp32 [tokens, value_dim].
        """
        written = self._written_rows()
        if written is None or self.overlay_rows is None:
            return self._bag(slots, weights, written)
        bag = self._bag(slots, weights, None)
        found = slot_rows(slots, written.slots, refuse_negative=True)
        hit = (found >= 0).any(-1).nonzero().flatten()
        if len(hit) == 0:
            return bag
        return bag.index_add(0, hit, _shared_bag(written, self.overlay_rows, found[hit], weights[hit]))

    def _bag(self, slots: Tensor, weights: Tensor, written: SlotOverlay | None) -> Tensor:
        """Base rows, and written rows of which each slot has its own."""
        if self.values is None and written is None:
            return weights.new_zeros(len(slots), self.value_dim)
        return slot_bag(slots, weights, base=self.values, overlay=written)

    def _written_rows(self) -> SlotOverlay | None:
        """The buffers; with overlay_rows, the values are not those of the slots but those that they share."""
        slots, values = self.overlay_slots, self.overlay_values
        owners, thresholds = self.overlay_owners, self.overlay_thresholds
        if slots is None or values is None or owners is None or thresholds is None:
            return None
        return SlotOverlay(slots, values.float(), owners, thresholds.float(), self.heads)


def _gated(written: SlotOverlay, rows: Tensor, weights: Tensor) -> GatedLookup:
    """Let the ownership gate weigh look-ups whose place among the written slots is known."""
    assert written.owners is not None
    assert written.thresholds is not None
    owners = lookup_owners(written.owners, rows)
    gated, best_owner, mass = ownership_gate(owners, weights, written.thresholds, written.heads)
    return GatedLookup(rows, gated, best_owner, mass)


def _shared_bag(written: SlotOverlay, row_of_slot: Tensor, found: Tensor, weights: Tensor) -> Tensor:
    """The gate sees whose slots were hit, the sum reads the rows that these slots share."""
    gated = _gated(written, found, weights).weights
    num_values = len(written.values)
    # One past the last row is no row: such a look-up adds nothing.
    rows = row_of_slot[found.clamp(min=0)].masked_fill(found < 0, num_values)
    every = torch.arange(num_values, device=rows.device)
    return slot_bag(rows, gated, overlay=SlotOverlay(every, written.values))
