"""What every Triton kernel takes of a GPU, read from its machine code on a machine that has none.

Command:   python -m benchmarks.kernel_resources           compares with benchmarks/kernel_resources.json
           python -m benchmarks.kernel_resources --write   writes that file anew
Time:      about two minutes on two cores; no GPU.
Result:    registers, stack frame (a spill shows there) and shared memory of each kernel, type, row width and
           target, and the widest load in it; exit code 1 where a figure differs from the file or a
           requirement does not hold.

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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from memedit_kernels.product_key_topk import triton_kernel as product_key_topk
from memedit_kernels.slot_bag import triton_kernel as slot_bag
from memedit_kernels.slot_gradient import triton_kernel as slot_gradient
from memedit_kernels.slot_rows import triton_kernel as slot_rows
from memedit_kernels.slot_update import RowAdam
from memedit_kernels.slot_update import triton_kernel as slot_update
from torch import Tensor
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
TOKENS, LOOKUPS, HEADS = 300, 128, 4
SEARCHES = ((512, 16), (1024, 32), (1024, 128))
# Kernels that read value rows, or gradients as wide: some load of theirs must fill a 128-bit access.
WIDE_LOADS = re.compile(r"bag|dots|row_gradient|update|restore|piece")


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
        kernel: name of the kernel.
        used_for: what it was launched for: type of the value rows and their widths, or sizes of the search.
        target: GPU architecture.
        registers: per thread.
        stack: bytes of stack frame per thread; a spill shows here.
        shared: bytes of shared memory per program.
        widest_load: bits of the widest of its loads from global memory, by one thread; others may be narrow.
    """

    kernel: str
    used_for: tuple[str, ...]
    target: str
    registers: int
    stack: int
    shared: int
    widest_load: int


def recorded(launcher: Callable[[], Any]) -> list[Launch]:
    """Run a launcher with Triton's launch replaced by a recorder; nothing is computed."""
    launches: list[Launch] = []
    original = JITFunction.run

    def record(self: JITFunction[Any], *args: Any, **kwargs: Any) -> None:
        given = {name: value for name, value in kwargs.items() if name not in ("grid", "warmup")}
        launches.append(Launch(self, args, given))

    JITFunction.run = record  # type: ignore[method-assign,assignment]
    try:
        launcher()
    finally:
        JITFunction.run = original  # type: ignore[method-assign]
    return launches


def source_of(launch: Launch, target: GPUTarget) -> tuple[ASTSource, dict[str, Any]]:
    """What a launch on a target would compile: source with its specialisation, and compiler options."""
    kernel, backend = launch.kernel, make_backend(target)
    binder = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialization, options = binder(*launch.args, **launch.kwargs, debug=False)
    parsed, signature, constants, attributes = kernel._pack_args(  # noqa: SLF001
        backend, {**launch.kwargs, "debug": False}, bound, specialization, options
    )
    return ASTSource(kernel, signature, constants, attributes), dict(parsed.__dict__)


def resources(launches: dict[str, list[Launch]], name: str) -> list[Resources]:
    """Compile every different kernel of some launches for a named target and read its figures.

    Args:
        launches: what was launched, by what it was launched for.
        name: a key of TARGETS.
    """
    sources: dict[str, tuple[ASTSource, dict[str, Any], list[str]]] = {}
    for used_for, recorded_launches in launches.items():
        for launch in recorded_launches:
            source, options = source_of(launch, TARGETS[name])
            _, _, uses = sources.setdefault(f"{source.hash()}{options}", (source, options, []))
            if used_for not in uses:
                uses.append(used_for)
    read = _amd_figures if name.startswith("gfx") else _nvidia_figures
    found = []
    for source, options, uses in sources.values():
        kernel = triton.compile(source, target=TARGETS[name], options=options)
        variant = f"{kernel.metadata.name}{_left_out(source)}"
        found.append(Resources(variant, tuple(uses), name, *read(kernel)))
    return found


def _left_out(source: ASTSource) -> str:
    """Which optional arguments a launch went without."""
    names = source.fn.arg_names
    missing = [
        names[place[0]] for place, value in source.constants.items() if value is None or value is False
    ]
    return f" without {', '.join(missing)}" if missing else ""


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
    widest = max(
        (32 * int(lanes) if lanes else 32 if name == "dword" else 16 for name, lanes in loads), default=0
    )
    return figure("vgpr_count"), figure("private_segment_fixed_size"), kernel.metadata.shared, widest


def _rows() -> None:
    slot_rows.slot_rows_triton(torch.arange(TOKENS * LOOKUPS).view(TOKENS, LOOKUPS), torch.arange(100))


def _search(num_keys: int, k: int) -> None:
    """The search; its backward has no kernel of its own."""
    queries, sub_keys = torch.randn(TOKENS, HEADS, 64), torch.randn(HEADS, 2, num_keys, 32)
    product_key_topk.product_key_topk_triton(queries, sub_keys, k)


def _wide(dtype: torch.dtype, dim: int) -> None:
    """Everything that reads or writes rows of a width."""
    num_slots, selected = 1024, torch.arange(0, 512, 2)
    slots = torch.arange(TOKENS * LOOKUPS).view(TOKENS, LOOKUPS) % num_slots
    # A row that everybody looks up is cut into pieces.
    slots[:, 0] = 0
    weights, values = torch.rand(TOKENS, LOOKUPS), torch.zeros(len(selected), dim)
    base, grads = torch.zeros(num_slots, dim, dtype=dtype), torch.zeros(TOKENS, dim, dtype=dtype)
    owners, thresholds = torch.zeros(len(selected), dtype=torch.int64), torch.zeros(1)
    for table in (base, None):
        for gate in ((owners, thresholds), (None, None)):
            slot_bag.slot_bag_triton(slots, weights, table, selected, values, *gate, HEADS, dtype)
    slot_bag.slot_bag_triton(slots, weights, base, None, None, None, None, HEADS, dtype)
    rows = torch.where(slots < len(selected), slots, -1)
    slot_bag.slot_bag_backward_triton(grads, slots, weights, base, rows, weights, values, owners)
    slot_gradient.row_gradient_triton(grads, rows, weights, len(selected))
    _updates(base, selected, dim)


def _updates(table: Tensor, selected: Tensor, dim: int) -> None:
    """One update of the table's rows by each rule, in order and with places in the state, and undoing it."""
    gradient = torch.zeros(len(selected), dim)
    adam, plain = RowAdam(0.1, 0.9, 0.99).new_state(len(selected), dim, table.device), torch.zeros(0)
    sums, buffer = torch.zeros(len(selected)), torch.zeros(len(selected), dim)
    slot_update.sgd_update_triton(table, selected, gradient, plain, None, 0.1, 0.0)
    for places in (None, torch.arange(len(selected))):
        slot_update.sgd_update_triton(table, selected, gradient, buffer, places, 0.1, 0.9)
        slot_update.adagrad_update_triton(table, selected, gradient, sums, places, 0.1, 1e-8)
        slot_update.adam_update_triton(table, selected, gradient, *adam, places, 0.1, 0.9, 0.99, 1e-8)
    slot_update.slot_restore_triton(table, selected, table[selected])


def launches(dims: Sequence[int] = DIMS) -> dict[str, list[Launch]]:
    """Every kernel of every op, as launched for each type, row width and size of search."""
    found: dict[str, list[Launch]] = {"slot_rows": recorded(_rows)}
    for num_keys, k in SEARCHES:
        found[f"n {num_keys}, k {k}"] = recorded(lambda: _search(num_keys, k))  # noqa: B023
    for name, dtype in TYPES.items():
        for dim in dims:
            found[f"{name} x {dim}"] = recorded(lambda: _wide(dtype, dim))  # noqa: B023
    return found


def faults(rows: Sequence[Resources]) -> list[str]:
    """Requirements that do not hold: no stack frame, 128-bit loads of value rows."""
    found = []
    for row in rows:
        what = f"{row.kernel} ({', '.join(row.used_for)}) on {row.target}"
        if row.stack:
            found.append(f"{what} has a stack frame of {row.stack} bytes, expected none")
        if WIDE_LOADS.search(row.kernel) and row.widest_load < 128:
            found.append(f"{what} loads {row.widest_load} bits at most, expected 128")
    return found


def table(targets: Sequence[str] = tuple(TARGETS), dims: Sequence[int] = DIMS) -> dict[str, Any]:
    """The figures of all kernels on some targets and row widths, with the Triton that compiled them."""
    launched = launches(dims)
    rows = [row for name in targets for row in resources(launched, name)]
    return {"triton": triton.__version__, "kernels": [asdict(row) for row in rows]}


def main() -> int:
    """Compile, then write the table or compare with it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write benchmarks/kernel_resources.json anew")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this target (repeatable)")
    parser.add_argument("--dims", type=int, nargs="+", choices=DIMS, default=DIMS, help="only these widths")
    arguments = parser.parse_args()
    if "TRITON_INTERPRET" in os.environ:
        raise SystemExit("TRITON_INTERPRET is set: nothing would be compiled; unset it")
    if arguments.write and (arguments.target or arguments.dims != DIMS):
        parser.error("--write makes the whole table: leave out --target and --dims")
    found = table(arguments.target or tuple(TARGETS), arguments.dims)
    if arguments.json:
        print(json.dumps(found))
    if arguments.write:
        TABLE.write_text(json.dumps(found, indent=1) + "\n")
    kept = json.loads(TABLE.read_text())
    problems = faults([Resources(**row) for row in found["kernels"]])
    problems += differences(kept, found)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not arguments.json:
        print(f"{len(found['kernels'])} kernels compiled, {len(problems)} problems")
    return 1 if problems else 0


def differences(kept: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Where figures differ from the table that was kept; another Triton is not compared."""
    if kept["triton"] != found["triton"]:
        return []
    problems = []
    for row in found["kernels"]:
        same = [old for old in kept["kernels"] if _same_kernel(old, row)]
        if _figures(row) not in [_figures(old) for old in same]:
            before = " or ".join(str(_figures(old)) for old in same) or "nothing"
            what = f"{row['kernel']} {row['target']} {', '.join(row['used_for'])}"
            problems.append(f"{what}: {before} in {TABLE.name}, now {_figures(row)}")
    return problems


def _same_kernel(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a kept row speaks of a compiled kernel; it may have been used for more."""
    return (old["kernel"], old["target"]) == (new["kernel"], new["target"]) and (
        set(new["used_for"]) <= set(old["used_for"])
    )


def _figures(row: dict[str, Any]) -> dict[str, int]:
    return {name: row[name] for name in ("registers", "stack", "shared", "widest_load")}


if __name__ == "__main__":
    sys.exit(main())
