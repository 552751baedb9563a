"""The type that a model computes in: the one it is stored in, unless the processor would crawl in it.

What: `computing` widens a bf16 or fp16 model to fp32 where it runs on a CPU without instructions for it;
`as_stored` narrows it again for the length of a `with` block, without loss: for saving.
Why: such a CPU emulates every product (`python -m benchmarks.arithmetic` times both): an edit of minutes
became one of hours, and nothing said why.
How: MEMEDIT_DTYPE=auto|stored|float32 decides. A widened model remembers the types of its file; the
fingerprint is taken of what is stored, so a store opens on either kind of machine.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from memedit.errors import UsageError

CHOICES = ("auto", "stored", "float32")
_VARIABLE = "MEMEDIT_DTYPE"
_ATTRIBUTE = "memedit_stored_dtypes"
_NARROW = (torch.bfloat16, torch.float16)

Model = TypeVar("Model", bound=nn.Module)


def computing(model: Model) -> Model:
    """Widen a model to fp32 in place, where MEMEDIT_DTYPE or the processor asks for it.

    Args:
        model: a model on one device, loaded in the type in which it is stored.

    Raises:
        UsageError: when MEMEDIT_DTYPE is none of CHOICES.
    """
    narrow = {name: each for name, each in model.named_parameters() if each.dtype in _NARROW}
    one = next(iter(narrow.values()), None)
    if one is not None and widens(one.dtype, one.device.type):
        remember(model, {name: parameter.dtype for name, parameter in narrow.items()})
        for parameter in narrow.values():
            parameter.data = parameter.data.float()
    return model


@contextmanager
def as_stored(model: nn.Module) -> Iterator[None]:
    """Give what `computing` widened the bits that it is stored with, for the length of a `with` block.

    Args:
        model: any model.
    """
    dtypes = stored_dtypes(model)
    widened = {name: each for name, each in model.named_parameters() if name in dtypes}
    try:
        for name, parameter in widened.items():
            parameter.data = parameter.data.to(dtypes[name])
        yield
    finally:
        for parameter in widened.values():
            parameter.data = parameter.data.float()


def stored_dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    """The types in which a widened model's parameters are stored, by name."""
    dtypes: dict[str, torch.dtype] = getattr(model, _ATTRIBUTE, {})
    return dtypes


def remember(model: nn.Module, dtypes: dict[str, torch.dtype]) -> None:
    """Note the types in which a model's parameters are stored, for one that shares a widened model's."""
    setattr(model, _ATTRIBUTE, dtypes)


def chosen() -> str:
    """The value of MEMEDIT_DTYPE.

    Raises:
        UsageError: when it is none of CHOICES.
    """
    choice = os.environ.get(_VARIABLE, "auto")
    if choice not in CHOICES:
        raise UsageError(f"{_VARIABLE}: got {choice!r}, expected one of {', '.join(CHOICES)}")
    return choice


def widens(dtype: torch.dtype, device_type: str) -> bool:
    """Whether a model stored in a narrow type would compute in fp32 here.

    Raises:
        UsageError: when MEMEDIT_DTYPE is none of CHOICES.
    """
    if (choice := chosen()) != "auto":
        return choice == "float32"
    return device_type == "cpu" and not _multiplies(dtype)


def _multiplies(dtype: torch.dtype) -> bool:
    """Whether this CPU has instructions for products of a narrow type."""
    told = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if told.get("architecture") == "x86_64":
        names = {torch.bfloat16: ("avx512_bf16", "amx_bf16"), torch.float16: ("avx512_fp16", "amx_fp16")}
        return any(bool(told.get(name)) for name in names[dtype])
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 (there is no public one)
    return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())  # noqa: SLF001
