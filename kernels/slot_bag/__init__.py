"""slot_bag: the weighted sum of a token's rows of a value table, with written rows and their gate."""

from memedit_kernels.slot_bag.dots import slot_dots
from memedit_kernels.slot_bag.gate import NOT_WRITTEN, UNGATED, lookup_owners, ownership_gate
from memedit_kernels.slot_bag.op import slot_bag
from memedit_kernels.slot_bag.overlay import SlotOverlay

__all__ = [
    "NOT_WRITTEN",
    "UNGATED",
    "SlotOverlay",
    "lookup_owners",
    "ownership_gate",
    "slot_bag",
    "slot_dots",
]
