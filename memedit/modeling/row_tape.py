"""Base rows that forwards read, as leaves of autograd: what trains a value table row by row.

No gradient of the table's size is made. A forward with a tape gathers the rows that its look-ups hit, each
once, and sums from that copy. Backward fills the copies' gradients; `gradients` adds up those of all forwards
(memory layers that share a table read one row in several of them) and hands them over with their slots, ready
for slot_update.
"""

from typing import NamedTuple

import torch
from memedit_kernels.slot_bag import SlotOverlay, slot_bag, slot_dots
from memedit_kernels.slot_gradient import row_gradient
from torch import Tensor


class RowGradients(NamedTuple):
    """The gradient of the rows that were read.

    Attributes:
        slots: int64 [n], ascending, each once.
        gradient: fp32 [n, value_dim].
    """

    slots: Tensor
    gradient: Tensor


class RowTape:
    """Records the rows of one value table that forwards read while gradients are on."""

    def __init__(self) -> None:
        self._read: list[tuple[Tensor, Tensor]] = []

    def bag(self, values: Tensor, slots: Tensor, weights: Tensor) -> Tensor:
        """Sum base rows as slot_bag does, and remember which.

        Args:
            values: [slots, value_dim], the base table; it needs no gradient.
            slots: int64 [tokens, j].
            weights: fp32 [tokens, j].

        Returns:
            fp32 [tokens, value_dim]; gradients reach the weights and the tape.
        """
        place, rows = self._copied(values, slots)
        every = torch.arange(len(rows), device=rows.device)
        return slot_bag(place, weights, overlay=SlotOverlay(every, rows))

    def dots(self, values: Tensor, slots: Tensor, inputs: Tensor) -> Tensor:
        """Multiply rows with their tokens' vectors as slot_dots does, and remember which.

        Args:
            values: [slots, dim], the table; it needs no gradient.
            slots: int64 [tokens, j].
            inputs: fp32 [tokens, dim].

        Returns:
            fp32 [tokens, j]; gradients reach the inputs and the tape.
        """
        place, rows = self._copied(values, slots)
        return slot_dots(inputs, place, rows)

    def _copied(self, values: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """The rows that are read, each once, as a leaf, and where each look-up finds its own."""
        read, place = slots.unique(return_inverse=True)
        rows = values.detach().index_select(0, read).float().requires_grad_()
        self._read.append((read, rows))
        return place, rows

    def clear(self) -> None:
        """Forget what was read."""
        self._read = []

    def gradients(self) -> RowGradients | None:
        """Hand over the gradient of every row that was read since the last call, and forget them.

        Returns:
            None when nothing was read, or no backward came by.
        """
        found = [(slots, rows.grad) for slots, rows in self._read if rows.grad is not None]
        self.clear()
        if not found:
            return None
        if len(found) == 1:
            slots, gradient = found[0]
            assert gradient is not None
            return RowGradients(slots, gradient)
        parts = torch.cat([gradient for _, gradient in found if gradient is not None])
        slots, place = torch.cat([slots for slots, _ in found]).unique(return_inverse=True)
        ones = parts.new_ones(len(parts), 1)
        return RowGradients(slots, row_gradient(parts, place[:, None], ones, len(slots)))
