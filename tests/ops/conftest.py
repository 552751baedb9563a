"""What every op test gets: NaN in uninitialised memory, guard rows around every output, tolerances.

The tests run on whichever backend the process has. `make test` runs them twice: on the reference, and, in a
process of its own with MEMEDIT_KERNELS=triton TRITON_INTERPRET=1, on the Triton kernels' bodies.
"""

from __future__ import annotations

import math
import os

import pytest
import torch
from memedit_kernels import allocation

GUARD_ROWS = 3
# A NaN in every floating type, so that reading it shows, with bits that no arithmetic makes, so that a stray
# NaN over it shows too.
GUARD = 0x7FFBABABABABABAB
GUARD_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@pytest.fixture(autouse=True)
def _nan_filled_memory():
    torch.use_deterministic_algorithms(mode=True)
    yield
    torch.use_deterministic_algorithms(mode=False)


class GuardRows:
    """Outputs with rows around them that no kernel may write to."""

    def __init__(self):
        self._guarded = []

    def new_output(self, shape, dtype, device):
        """Allocate as memedit_kernels.allocation does, between guard rows."""
        width = math.prod(shape[1:])
        rows = shape[0] if len(shape) else 1
        edge = GUARD_ROWS * max(width, 1)
        whole = torch.full((rows * width + 2 * edge,), math.nan if dtype.is_floating_point else -77)
        whole = whole.to(device, dtype)
        bits = whole.view(GUARD_BITS[whole.element_size()])
        guards = bits[:edge], bits[len(bits) - edge :]
        for guard in guards:
            guard.fill_(GUARD >> (64 - 8 * guard.element_size()))
        self._guarded += [(guard, guard.clone()) for guard in guards]
        return whole[edge : len(whole) - edge].view(shape)

    def check(self):
        """Fail where a guard row's bits have changed."""
        for guard, before in self._guarded:
            assert torch.equal(guard, before), "a kernel wrote outside its output"


@pytest.fixture(autouse=True)
def _guarded_outputs(request, monkeypatch):
    """Surround what kernels allocate with guard rows, and look at them when the test is over."""
    if "unguarded" in request.fixturenames:
        yield
        return
    guards = GuardRows()
    for module in _modules_that_allocate():
        monkeypatch.setattr(module, "new_output", guards.new_output)
    yield
    guards.check()


@pytest.fixture
def guard_rows():
    """Guard rows of a test's own."""
    return GuardRows()


@pytest.fixture
def unguarded():
    """No guard rows: for torch.library.opcheck, which compares storage offsets."""


def _modules_that_allocate():
    """The allocation module and, under the interpreter, every kernel module that imported its function."""
    import importlib
    from pathlib import Path

    modules = [allocation]
    if os.environ.get("MEMEDIT_KERNELS") == "triton":
        kernels = Path(allocation.__file__).parent
        folders = sorted(file.parent.name for file in kernels.glob("*/triton_kernel.py"))
        modules += [importlib.import_module(f"memedit_kernels.{name}.triton_kernel") for name in folders]
    return [module for module in modules if hasattr(module, "new_output")]


@pytest.fixture
def generator(seed):
    """What a test draws its numbers from."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def on_triton() -> bool:
    """Whether this process runs the Triton kernels."""
    return os.environ.get("MEMEDIT_KERNELS") == "triton"
