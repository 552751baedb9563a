"""slot_bag: the weighted sum of a token's rows of a value table."""

from memedit_kernels.slot_bag.op import slot_bag

__all__ = ["slot_bag"]
