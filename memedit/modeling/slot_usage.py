"""How evenly a memory layer's look-ups spread over its slots.

A table of which few slots are read is mostly dead weight. Two numbers say it: the share of slots that were
read at all, and how far the routing mass is from an even one.

Source: Lample et al. 2019 (arXiv 1907.05242), section 4.4.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from memedit.modeling.memory_layer import MemoryLayer


class SlotUsage:
    """Adds up where tokens were routed.

    Args:
        num_slots: slots of the table.

    Attributes:
        mass: fp64 [num_slots], sum of the routing weights of each slot.
    """

    def __init__(self, num_slots: int) -> None:
        self.mass = torch.zeros(num_slots, dtype=torch.float64)

    def add(self, slots: Tensor, weights: Tensor) -> None:
        """Count look-ups.

        Args:
            slots: int64 [tokens, j].
            weights: [tokens, j].
        """
        self.mass.index_add_(0, slots.flatten().cpu(), weights.detach().flatten().double().cpu())

    @property
    def share_used(self) -> float:
        """Share of slots with any mass, 0 to 1."""
        return float((self.mass > 0).double().mean())

    @property
    def kl_to_uniform(self) -> float:
        """Kullback-Leibler divergence of the mass from an even one, in nats; 0 = even, NaN = nothing read."""
        share = self.mass / self.mass.sum()
        return math.log(len(share)) + float(torch.xlogy(share, share).sum())


@contextmanager
def watched(layers: Sequence[MemoryLayer], usage: SlotUsage) -> Iterator[SlotUsage]:
    """Count the look-ups of memory layers that share a table, for as long as the context lasts.

    Args:
        layers: whose look-ups are counted.
        usage: where they are added.
    """

    def count(_: Any, arguments: tuple[Any, ...]) -> None:
        usage.add(arguments[2].slots, arguments[2].weights)

    handles = [layer.register_forward_pre_hook(count) for layer in layers]
    try:
        yield usage
    finally:
        for handle in handles:
            handle.remove()
