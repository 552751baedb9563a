"""What every Triton kernel takes of a GPU, read from its machine code on a machine that has none.

Command:   python -m benchmarks.kernel_resources           compares with benchmarks/kernel_resources.json
           python -m benchmarks.kernel_resources --write   writes that file anew
Time:      about two minutes on two cores; no GPU.
Result:    registers, stack frame, spills and shared memory of each kernel, type, row width and target, and the
           widest load in it; exit code 1 where a figure differs from the file or a requirement does not hold.

The launchers are run on CPU tensors with Triton's launch replaced by a recorder, so that what is compiled is
what a GPU would be given: the same arguments, specialisation, block sizes and number of warps. Equal kernels
are compiled once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from memedit_kernels.product_key_topk import triton_kernel as product_key_topk
from memedit_kernels.slot_bag import triton_kernel as slot_bag
from memedit_kernels.slot_gradient import triton_kernel as slot_gradient
from memedit_kernels.slot_rows import triton_kernel as slot_rows
from memedit_kernels.slot_update import triton_kernel as slot_update
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

TABLE = Path(__file__).with_suffix(".json")
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
DIMS = (576, 1024, 2048, 4096)
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Kernels that read value rows, or gradients as wide: their loads must fill a 128-bit access.
WIDE_LOADS = re.compile(r"bag|row_gradient|update|restore|piece")


@dataclass(frozen=True)
class Launch:
    """One recorded launch: the kernel and the arguments that it was given."""

    kernel: JITFunction[Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Resources:
    """What one compiled kernel takes.

    Attributes:
        case: op and type it was launched for, and the width of the rows (0 = it reads none).
        kernel: name of the kernel.
        target: GPU architecture.
        registers: per thread.
        stack: bytes of stack frame per thread; a spill shows here.
        shared: bytes of shared memory per program.
        widest_load: bits of the widest load from global memory by one thread.
    """

    case: str
    kernel: str
    target: str
    registers: int
    stack: int
    shared: int
    widest_load: int


def recorded(launcher: Callable[[], Any]) -> list[Launch]:
    """Run a launcher with Triton's launch replaced by a recorder; nothing is computed."""
    launches: list[Launch] = []
    original = JITFunction.run

    def record(self: JITFunction[Any], *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        launches.append(Launch(self, args, kwargs))

    JITFunction.run = record  # type: ignore[method-assign,assignment]
    try:
        launcher()
    finally:
        JITFunction.run = original  # type: ignore[method-assign]
    return launches


def compiled(launch: Launch, target: GPUTarget) -> Any:
    """Compile a launch for a target with the specialisation that a launch there would use."""
    kernel, backend = launch.kernel, make_backend(target)
    binder = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialization, options = binder(*launch.args, **launch.kwargs, debug=False)
    parsed, signature, constants, attributes = kernel._pack_args(  # noqa: SLF001
        backend, {**launch.kwargs, "debug": False}, bound, specialization, options
    )
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=parsed.__dict__)


def resources(case: str, launch: Launch, name: str) -> Resources:
    """Compile a launch for a named target and read its figures from the machine code."""
    kernel = compiled(launch, TARGETS[name])
    read = _amd_figures if name.startswith("gfx") else _nvidia_figures
    registers, stack, shared, widest = read(kernel)
    return Resources(case, kernel.metadata.name, name, registers, stack, shared, widest)


def _nvidia_figures(kernel: Any) -> tuple[int, int, int, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        dump = subprocess.run(
            [str(tool), "--dump-resource-usage", file.name], check=True, capture_output=True, text=True
        ).stdout
    registers, stack, _, local = (
        int(re.search(rf"\b{key}:(\d+)", dump)[1])  # type: ignore[index]
        for key in ("REG", "STACK", "SHARED", "LOCAL")
    )
    loads = re.findall(r"ld\.global[\w.:]*?(?:\.v(\d))?\.[bsuf](\d+)\b", kernel.asm["ptx"])
    widest = max((int(lanes or 1) * int(bits) for lanes, bits in loads), default=0)
    return registers, stack + local, kernel.metadata.shared, widest


def _amd_figures(kernel: Any) -> tuple[int, int, int, int]:
    text = kernel.asm["amdgcn"]

    def figure(key: str) -> int:
        return int(re.search(rf"\.{key}:\s+(\d+)", text)[1])  # type: ignore[index]

    loads = re.findall(r"(?:global|buffer)_load_(dwordx(\d)|dword|[us]?(?:short|byte)\w*)", text)
    widest = max((32 * int(lanes) if lanes else 32 if name == "dword" else 16 for name, lanes in loads), default=0)
    return figure("vgpr_count"), figure("private_segment_fixed_size"), kernel.metadata.shared, widest
