"""Mini-batches of rows: random, and of similar length, so that little of a batch is padding."""

from collections.abc import Sequence

import torch

_SORTED_TOGETHER = 8


def shuffled_batches(lengths: Sequence[int], size: int, generator: torch.Generator) -> list[list[int]]:
    """Random batches of rows of similar length: shuffled, sorted within eight batches, batches shuffled.

    Args:
        lengths: tokens of each row.
        size: rows of a batch; the last of eight may have fewer.
        generator: decides the order.

    Returns:
        Indices of rows, each once.
    """
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), _SORTED_TOGETHER * size):
        chunk = sorted(order[start : start + _SORTED_TOGETHER * size], key=lambda row: lengths[row])
        batches += [chunk[at : at + size] for at in range(0, len(chunk), size)]
    shuffled = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[number] for number in shuffled]
