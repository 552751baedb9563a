"""The value table of a memory layer: base rows that never change, and the overlay of written rows on top.

A retrofit has no base rows (they would all be zeros). The overlay lives in buffers, so that save_pretrained
stores it and a forward reads it in place; it stays in fp32 whatever the model's type is. Several memory
layers may share one table: its overlay speaks at the last of them.
"""

from typing import NamedTuple

import torch
from memedit_kernels.slot_bag import (
    NOT_WRITTEN,
    UNGATED,
    SlotOverlay,
    lookup_owners,
    ownership_gate,
    slot_bag,
    slot_dots,
)
from memedit_kernels.slot_rows import slot_rows
from torch import Tensor, nn

from memedit.modeling.configuration import MemoryLlamaConfig
from memedit.modeling.overlay import Overlay
from memedit.modeling.row_tape import RowTape

# Tokens and owners whose numbers are gathered at a time: 33 MB each, of queries and of discriminants.
_PAIRS = 16_384
OVERLAY_BUFFERS = (
    "overlay_slots",
    "overlay_values",
    "overlay_owners",
    "overlay_thresholds",
    "overlay_rows",
    "overlay_discriminants",
)


class GatedLookup(NamedTuple):
    """What a token's look-ups found in the overlay.

    Attributes:
        rows: int64 [tokens, j], index into the overlay's slots or -1.
        weights: [tokens, j], routing weights after the owners' discriminants and the ownership gate.
        best_owner: int64 [tokens], the one with the most mass whose discriminant agrees, -1 = none.
        mass: [tokens], that owner's share of the routing, 0 to 1.
    """

    rows: Tensor
    weights: Tensor
    best_owner: Tensor
    mass: Tensor


class _WrittenRows(NamedTuple):
    """The fields of an Overlay that a forward reads, not checked again."""

    slots: Tensor
    values: Tensor
    owners: Tensor
    thresholds: Tensor
    rows: Tensor | None
    discriminants: Tensor | None


class MemoryTable(nn.Module):
    """Base values [slots, value_dim] (or none) and the overlay of written rows.

    Attributes:
        inputs: of single-neuron experts, [slots, hidden_size]; None = slots are values alone.
        tape: records the base rows that forwards read, for training; None = they are read in place.
        input_tape: the same for the rows of `inputs`.
    """

    values: nn.Parameter | None
    inputs: nn.Parameter | None
    overlay_slots: Tensor | None
    overlay_values: Tensor | None
    overlay_owners: Tensor | None
    overlay_thresholds: Tensor | None
    overlay_rows: Tensor | None
    overlay_discriminants: Tensor | None

    def __init__(self, config: MemoryLlamaConfig, table_index: int) -> None:
        super().__init__()
        self.num_slots, self.value_dim, self.heads = config.num_slots, config.value_dim, config.memory_heads
        self.query_dim = config.memory_heads * config.memory_key_dim
        base = None if config.memory_empty_base else nn.Parameter(torch.empty(self.num_slots, self.value_dim))
        self.register_parameter("values", base)
        experts = config.memory_variant == "peer"
        inputs = nn.Parameter(torch.empty(self.num_slots, config.hidden_size)) if experts else None
        self.register_parameter("inputs", inputs)
        self.tape: RowTape | None = None
        self.input_tape: RowTape | None = None
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
            query_dim = config.memory_overlay_query_dims[table_index]
            self.overlay_discriminants = torch.zeros(num_owners, query_dim + 1) if query_dim else None

    def is_silent(self, *, reads_written: bool) -> bool:
        """Whether nothing can come out: no base table, and no written row that speaks.

        Args:
            reads_written: whether the overlay speaks at the layer that asks.
        """
        return self.values is None and (self.overlay_slots is None or not reads_written)

    @property
    def overlay(self) -> Overlay | None:
        """The written rows, None when there are none."""
        written = self._written_rows()
        if written is None:
            return None
        slots, values, owners, thresholds, rows, discriminants = written
        return Overlay(slots, values, owners, thresholds, self.owner_names, rows, discriminants)

    def set_overlay(self, overlay: Overlay | None) -> None:
        """Put these written rows in place of the present ones; None, or no rows, takes them away.

        The tensors are used as they are, not copied: gradients reach overlay.values when it requires them.

        Raises:
            ValueError: when a slot lies outside the table or a width does not fit.
        """
        if overlay is None or overlay.num_rows == 0:
            for name in OVERLAY_BUFFERS:
                self.register_buffer(name, None)
            self.owner_names = ()
            return
        if self.inputs is not None:
            raise ValueError(
                'overlay: got rows for a model of memory_variant "peer", expected "values": an expert\'s '
                "activation would scale what is written"
            )
        if int(overlay.slots[-1]) >= self.num_slots:
            raise ValueError(
                f"overlay.slots: got slot {int(overlay.slots[-1])}, expected below {self.num_slots}"
            )
        if overlay.values.shape[1] != self.value_dim:
            raise ValueError(
                f"overlay.values: got width {overlay.values.shape[1]}, expected {self.value_dim}"
            )
        discriminants = overlay.discriminants
        if discriminants is not None and discriminants.shape[1] != self.query_dim + 1:
            raise ValueError(
                f"overlay.discriminants: got width {discriminants.shape[1]}, expected {self.query_dim + 1}"
            )
        self.register_buffer("overlay_slots", overlay.slots)
        self.register_buffer("overlay_values", overlay.values)
        self.register_buffer("overlay_owners", overlay.owners)
        self.register_buffer("overlay_thresholds", overlay.thresholds)
        self.register_buffer("overlay_rows", overlay.rows)
        self.register_buffer("overlay_discriminants", discriminants)
        self.owner_names = overlay.owner_names

    def look_up_overlay(self, slots: Tensor, weights: Tensor, queries: Tensor) -> GatedLookup | None:
        """Find the written rows among these look-ups and let their owners' gates weigh them.

        Args:
            slots: int64 [tokens, heads * k].
            weights: fp32 [tokens, heads * k].
            queries: fp32 [tokens, heads * key_dim].

        Returns:
            The look-ups, None when the table has no overlay.
        """
        written = self._written_rows()
        return None if written is None else gated_look_ups(written, slots, weights, queries, self.heads)

    def input_dots(self, hidden: Tensor, slots: Tensor) -> Tensor:
        """Multiply tokens with the input rows of the experts that they look up.

        Args:
            hidden: fp32 [tokens, hidden_size].
            slots: int64 [tokens, heads * k].

        Returns:
            fp32 [tokens, heads * k].

        Raises:
            ValueError: when the slots are no experts.
        """
        if self.inputs is None:
            raise ValueError('memory_variant: got "values", expected "peer": slots have no input rows')
        if self.input_tape is None or not torch.is_grad_enabled():
            return slot_dots(hidden, slots, self.inputs.detach())
        return self.input_tape.dots(self.inputs, slots, hidden)

    def base_bag(self, slots: Tensor, weights: Tensor) -> Tensor:
        """Sum the base rows alone, fp32 [tokens, value_dim]; zeros where there are none."""
        return self._bag(slots, weights, None)

    def forward(self, slots: Tensor, weights: Tensor, queries: Tensor) -> Tensor:
        """Return the bag of each token: base rows and written rows, weighted.

        Args:
            slots: int64 [tokens, heads * k].
            weights: fp32 [tokens, heads * k].
            queries: fp32 [tokens, heads * key_dim].

        Returns:
            fp32 [tokens, value_dim].
        """
        written = self._written_rows()
        if written is None or (written.rows is None and written.discriminants is None):
            return self._bag(slots, weights, written)
        bag = self._bag(slots, weights, None)
        found = slot_rows(slots, written.slots, refuse_negative=True)
        hit = (found >= 0).any(-1).nonzero().flatten()
        if len(hit) == 0:
            return bag
        gated = _gated(written, found[hit], weights[hit], queries[hit], self.heads).weights
        return bag.index_add(0, hit, _written_bag(written, found[hit], gated))

    def _bag(self, slots: Tensor, weights: Tensor, written: _WrittenRows | None) -> Tensor:
        """Base rows, and written rows of which each slot has its own and the gate alone decides."""
        if self.values is None and written is None:
            return weights.new_zeros(len(slots), self.value_dim)
        overlay = None
        if written is not None:
            overlay = SlotOverlay(
                written.slots, written.values, written.owners, written.thresholds, self.heads
            )
        if self.tape is None or self.values is None or not torch.is_grad_enabled():
            return slot_bag(slots, weights, base=self.values, overlay=overlay)
        bag = self.tape.bag(self.values, slots, weights)
        return bag if overlay is None else bag + slot_bag(slots, weights, overlay=overlay)

    def _written_rows(self) -> _WrittenRows | None:
        """The buffers, fp32 whatever type the model was cast to."""
        slots, values = self.overlay_slots, self.overlay_values
        owners, thresholds = self.overlay_owners, self.overlay_thresholds
        if slots is None or values is None or owners is None or thresholds is None:
            return None
        discriminants = self.overlay_discriminants
        return _WrittenRows(
            slots,
            values.float(),
            owners,
            thresholds.float(),
            self.overlay_rows,
            None if discriminants is None else discriminants.float(),
        )


def gated_look_ups(
    written: Overlay | _WrittenRows, slots: Tensor, weights: Tensor, queries: Tensor, heads: int
) -> GatedLookup:
    """Find written rows among look-ups and let their owners' gates weigh them.

    Args:
        written: the written rows.
        slots: int64 [tokens, heads * k].
        weights: fp32 [tokens, heads * k].
        queries: [tokens, heads * key_dim], of any floating type.
        heads: heads of the memory layer.
    """
    return _gated(written, slot_rows(slots, written.slots), weights, queries, heads)


def agrees(discriminants: Tensor, owners: Tensor, queries: Tensor) -> Tensor:
    """Whether queries lie on an owner's side of its discriminant.

    Args:
        discriminants: fp32 [num_owners, query_dim + 1], see Overlay.
        owners: int64 [tokens], whose.
        queries: [tokens, query_dim].

    Returns:
        bool [tokens].
    """
    chosen = discriminants[owners]
    side: Tensor = (queries.float() * chosen[:, :-1]).sum(-1) + chosen[:, -1] >= 0
    return side


def _gated(
    written: Overlay | _WrittenRows, rows: Tensor, weights: Tensor, queries: Tensor, heads: int
) -> GatedLookup:
    """Let gates weigh look-ups whose place among the written slots is known."""
    owners = lookup_owners(written.owners, rows)
    if written.discriminants is not None:
        owners = _of_agreeing(owners, written.discriminants, queries)
    return GatedLookup(rows, *ownership_gate(owners, weights, written.thresholds, heads))


def _of_agreeing(owners: Tensor, discriminants: Tensor, queries: Tensor) -> Tensor:
    """Owners of look-ups, those whose discriminant disagrees with the token's query left out.

    Before the gate: of two subjects that share slots, the one that is meant may have fewer of them.
    """
    num_owners = len(discriminants)
    token, column = (owners > UNGATED).nonzero(as_tuple=True)
    pairs, place = (token * num_owners + owners[token, column]).unique(return_inverse=True)
    agreed = [
        agrees(discriminants, part % num_owners, queries[part // num_owners]) for part in pairs.split(_PAIRS)
    ]
    shut = ~torch.cat(agreed)[place]
    left = owners.clone()
    left[token[shut], column[shut]] = NOT_WRITTEN
    return left


def _written_bag(written: _WrittenRows, found: Tensor, gated: Tensor) -> Tensor:
    """The gate sees whose slots were hit, the sum reads the rows that these slots hold."""
    num_values = len(written.values)
    held = found if written.rows is None else written.rows[found.clamp(min=0)]
    # One past the last row is no row: such a look-up adds nothing.
    rows = held.masked_fill(found < 0, num_values)
    every = torch.arange(num_values, device=rows.device)
    return slot_bag(rows, gated, overlay=SlotOverlay(every, written.values))
