"""Checks of arguments that several ops share; each raises ValueError naming the argument, got and expected.

Checks of shape and type run in the public functions, before the dispatcher. Checks of values (slot numbers,
order) read the data, so they run inside the ops, where torch.compile does not look.
"""

from numbers import Integral
from typing import cast

import torch
from torch import Tensor

TABLE_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Types of value rows; fp64 is there for gradient checks."""


def check_tensor(name: str, tensor: Tensor, dim: int, types: tuple[torch.dtype, ...], expected: str) -> None:
    """Check type and number of dimensions.

    Args:
        name: the argument's name.
        tensor: the argument.
        dim: its number of dimensions.
        types: types that it may have.
        expected: what the message says, such as "int64 [tokens, j]".
    """
    if tensor.dim() != dim or tensor.dtype not in types:
        raise ValueError(f"{name}: got {tensor.dtype} {tuple(tensor.shape)}, expected {expected}")


def check_lookups(slots: Tensor, weights: Tensor, *, name: str = "slots") -> None:
    """Check slots int64 [tokens, j] and weights of the same shape, fp32 (fp64 for gradient checks).

    Args:
        slots: the slots, or what else there is one of for each look-up.
        weights: the look-ups' weights.
        name: what error messages call `slots`.
    """
    check_tensor(name, slots, 2, (torch.int64,), "torch.int64 [tokens, j]")
    if weights.shape != slots.shape or weights.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"weights: got {weights.dtype} {tuple(weights.shape)}, expected torch.float32 "
            f"{tuple(slots.shape)} as in {name}"
        )


def check_ascending(name: str, slots: Tensor) -> None:
    """Check the values of int64 [n]: ascending, each once, from 0 on."""
    if len(slots) and (bool((slots[1:] <= slots[:-1]).any()) or int(slots[0]) < 0):
        raise ValueError(
            f"{name}: got numbers out of order, repeated or negative, expected ascending, each once"
        )


def check_range(name: str, numbers: Tensor, end: int | None, *, lowest: int = 0) -> None:
    """Check that every number lies in [lowest, end).

    Args:
        name: the argument's name.
        numbers: the argument, int64 of any shape.
        end: one past the highest; None = no end.
        lowest: the lowest.
    """
    if numbers.numel():
        low, high = (int(bound) for bound in torch.aminmax(numbers))
        if low < lowest or (end is not None and high >= end):
            expected = f"{lowest} or more" if end is None else f"{lowest} to {end - 1}"
            raise ValueError(f"{name}: got numbers in [{low}, {high}], expected {expected}")


def check_count(
    name: str, count: object, lowest: int, highest: int | None = None, *, expected: str | None = None
) -> None:
    """Check that a count is an integer in [lowest, highest].

    Args:
        name: the argument's name.
        count: the argument; torch.compile may pass a symbol for it.
        lowest: the lowest that fits.
        highest: the highest that fits; None = no limit.
        expected: what the message says; None = the integers from lowest on.
    """
    if isinstance(count, (Integral, torch.SymInt)):
        number = cast("int", count)
        if number >= lowest and (highest is None or number <= highest):
            return
    raise ValueError(f"{name}: got {count}, expected {expected or f'an integer, {lowest} or more'}")


def check_weights(weights: Tensor) -> None:
    """Check that no weight is NaN or below 0."""
    # The minimum of numbers with a NaN among them is NaN, which is not 0 or more.
    if weights.numel() and not float(torch.aminmax(weights.detach()).min) >= 0:
        raise ValueError("weights: got NaN or a negative weight, expected 0 or more")


def check_device(**tensors: Tensor | None) -> None:
    """Check that all tensors given are on one device."""
    devices = {name: str(tensor.device) for name, tensor in tensors.items() if tensor is not None}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"got tensors on different devices ({listed}), expected one device")
