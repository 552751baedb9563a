"""Scores packed with their keys into int64, so that an order with a rule for ties is the order of integers.

A score's bits, mapped so that integers compare as the scores do and -0.0 equals +0.0, make the high half. The
number of its key is subtracted: of equal scores the lower number is the greater integer. No two keys of a row
pack alike, so a top-k of packed scores has one answer, whatever algorithm finds it.
"""

import torch
from torch import Tensor

_LOW_BITS = 0xFFFFFFFF
_MAGNITUDE = 0x7FFFFFFF


def packed(scores: Tensor, numbers: Tensor) -> Tensor:
    """Pack scores with the numbers of their keys.

    Args:
        scores: fp32, contiguous.
        numbers: int64 in [0, 2^32), of a shape that broadcasts to that of scores.

    Returns:
        int64 in the shape of scores; descending order is by score, equal scores by number, lower first.
    """
    bits = scores.view(torch.int32)
    sign = bits >> 31
    ordered = (sign & _MAGNITUDE).bitwise_xor_(bits).sub_(sign)
    # In place: memory that is new to the process costs more than the arithmetic.
    return ordered.long().bitwise_left_shift_(32).sub_(numbers)


def unpacked(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Take packed scores apart.

    Returns:
        scores fp32 (a score of -0.0 comes back as +0.0) and numbers int64, both in the shape of keys.
    """
    numbers = -keys & _LOW_BITS
    ordered = ((keys + numbers) >> 32).int()
    sign = ordered >> 31
    return ((sign & _MAGNITUDE).bitwise_xor_(ordered + sign)).view(torch.float32), numbers
