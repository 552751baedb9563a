"""Which implementation of an op runs, and on which device.

Every op is a `torch.library.custom_op` whose body is its reference in plain torch. PyTorch's dispatcher picks
the Triton kernels where they are registered; this file decides where that is, once, from MEMEDIT_KERNELS:

    auto        Triton on CUDA and ROCm where Triton is installed, else the reference (the default)
    reference   plain torch everywhere
    triton      Triton everywhere, and an error where that cannot be: on the CPU it needs TRITON_INTERPRET=1

The kernels' modules are imported at their first call, so that `import memedit` does not load Triton.
"""

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

CHOICES = ("auto", "reference", "triton")
_VARIABLE = "MEMEDIT_KERNELS"
_DISABLED = "__dynamo_disable"
_INSTALL = "pip install 'memedit[triton]' installs it (Linux)"


class KernelsUnavailable(RuntimeError):
    """What MEMEDIT_KERNELS asks for cannot run; the message says what to install or set."""


def chosen() -> str:
    """Return the value of MEMEDIT_KERNELS.

    Raises:
        ValueError: when it is none of auto, reference, triton.
    """
    choice = os.environ.get(_VARIABLE) or "auto"
    if choice not in CHOICES:
        raise ValueError(f"MEMEDIT_KERNELS: got {choice!r}, expected one of {', '.join(CHOICES)}")
    return choice


def require(device: str) -> str:
    """Return what runs on a device, `reference` or `triton`.

    Args:
        device: torch's device type: cpu, or cuda (ROCm's too).

    Raises:
        KernelsUnavailable: when MEMEDIT_KERNELS=triton and Triton cannot run there.
        ValueError: when MEMEDIT_KERNELS is none of the choices.
    """
    choice, installed = chosen(), importlib.util.find_spec("triton") is not None
    if choice == "reference" or (choice == "auto" and (device != "cuda" or not installed)):
        return "reference"
    if not installed:
        raise KernelsUnavailable(f"MEMEDIT_KERNELS=triton, but Triton is not installed: {_INSTALL}")
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise KernelsUnavailable(
            "MEMEDIT_KERNELS=triton, but the tensors are on the CPU: unset it, move the model to a CUDA or "
            "ROCm GPU, or set TRITON_INTERPRET=1 to run the kernels in Triton's (slow) interpreter"
        )
    return "triton"


def register_triton(op: Any, module: str, launcher: str) -> None:
    """Let the dispatcher run an op's Triton launcher on the devices that MEMEDIT_KERNELS names.

    Args:
        op: what torch.library.custom_op returned; its body is the reference.
        module: import name of the module that holds the launcher; imported at the first call.
        launcher: name of the function in it, with the op's signature.
    """
    reference = op._init_fn  # noqa: SLF001 - the body, which custom_op does not name in public

    def launch(*args: Any, **kwargs: Any) -> Any:
        device = next(arg.device for arg in args if isinstance(arg, torch.Tensor))
        if require(device.type) == "triton":
            run: Callable[..., Any] = getattr(importlib.import_module(module), launcher)
        else:
            _warn_without_triton()
            run = reference
        # Triton launches on the current GPU, which need not be the tensors'.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            return run(*args, **kwargs)

    choice = os.environ.get(_VARIABLE) or "auto"
    if choice != "reference":
        op.register_kernel("cuda")(launch)
    # A choice that is none of the three is an error too, at the first call rather than at import.
    if choice not in ("auto", "reference"):
        op.register_kernel("cpu")(launch)
    defer_dynamo(op)


def defer_dynamo(op: Any) -> None:
    """Keep an op from loading torch._dynamo until somebody else did.

    custom_op does so at the first call, which takes most of a second, to keep a compiler that is at work from
    tracing the body; where torch._dynamo is not loaded, none is. The attributes are torch's own: where
    they change, the op works as before and loads it.

    Args:
        op: what torch.library.custom_op returned, after its kernels were registered.
    """
    for wrapped in getattr(op, "_backend_fns", {}).values():
        body = getattr(wrapped, "__wrapped__", None)
        if body is not None and not hasattr(body, _DISABLED):
            setattr(body, _DISABLED, _Deferred(wrapped, body))


class _Deferred:
    """What torch calls in place of an op's body: the body, or torch's own guard once dynamo is loaded."""

    def __init__(self, wrapped: Callable[..., Any], body: Callable[..., Any]) -> None:
        self.wrapped, self.body = wrapped, body

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return self.body(*args, **kwargs)
        # Two threads may come here at once.
        if getattr(self.body, _DISABLED, None) is self:
            delattr(self.body, _DISABLED)
        return self.wrapped(*args, **kwargs)


def _warn_without_triton() -> None:
    global _warned  # noqa: PLW0603 - once in a process
    if not _warned:
        _warned = True
        message = f"Triton is not installed: the memory layers run in plain torch on this GPU. {_INSTALL}."
        warnings.warn(message, stacklevel=4)


_warned = False
