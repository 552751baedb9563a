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


@pytest.fixture(autouse=True)
def _nan_filled_memory():
    torch.use_deterministic_algorithms(mode=True)
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(autouse=True)
def _guarded_outputs(request, monkeypatch):
    """Surround what kernels allocate with guard rows, and look at them when the test is over."""
    guarded = []
    if "unguarded" in request.fixturenames:
        yield
        return

    def new_output(shape, dtype, device):
        width = math.prod(shape[1:])
        rows = shape[0] if len(shape) else 1
        whole = torch.empty((rows + 2 * GUARD_ROWS) * max(width, 1), dtype=dtype, device=device)
        whole.fill_(float("nan") if dtype.is_floating_point else -77)
        edge = GUARD_ROWS * max(width, 1)
        guarded.append((whole, edge, whole.clone()))
        return whole[edge : edge + rows * width].view(shape)

    for module in _modules_that_allocate():
        monkeypatch.setattr(module, "new_output", new_output)
    yield
    for whole, edge, before in guarded:
        for part in (slice(None, edge), slice(whole.numel() - edge, None)):
            unchanged = torch.equal(whole[part].nan_to_num(7.0), before[part].nan_to_num(7.0))
            assert unchanged, "a kernel wrote outside its output"


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


@pytest.fixture(scope="session")
def on_triton() -> bool:
    """Whether this process runs the Triton kernels."""
    return os.environ.get("MEMEDIT_KERNELS") == "triton"
