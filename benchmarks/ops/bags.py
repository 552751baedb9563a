"""slot_bag over rows that do not fit the cache, against the bandwidth of a plain copy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from memedit_kernels.slot_bag import slot_bag

from benchmarks.ops.cases import Case, table


def bag(case: Case) -> Callable[[], Callable[[], object]]:
    """slot_bag of an fp32 base table, look-ups uniform over all of it."""
    generator = torch.Generator().manual_seed(0)
    base = table(case)
    slots = torch.randint(0, case.num_slots, (case.tokens, case.lookups), generator=generator)
    weights = torch.rand(case.tokens, case.lookups, generator=generator)
    return lambda: lambda: slot_bag(slots, weights, base=base)


def copy(case: Case) -> Callable[[], Callable[[], object]]:
    """A plain copy of as many rows as a bag reads, into memory that is already there."""
    source = torch.ones(case.tokens * case.lookups, case.dim)
    target = torch.zeros_like(source)
    return lambda: lambda: target.copy_(source)


def bytes_moved(case: Case) -> int:
    """What a bag must read and write, or a copy reads and writes."""
    rows = case.tokens * case.lookups
    if case.contender == "copy":
        return 2 * rows * case.dim * 4
    # Value rows, slots (8 bytes) and weights (4 bytes) of every look-up, and the output.
    return rows * (case.dim * 4 + 12) + case.tokens * case.dim * 4


BAGS = {"slot_bag": bag, "copy": copy}
