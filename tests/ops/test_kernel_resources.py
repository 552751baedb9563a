"""What a GPU would be given: every kernel compiled, without a GPU, and compared with the checked-in table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "benchmarks" / "kernel_resources.json"


def run(*arguments):
    # A process of its own: under the interpreter the kernels cannot be compiled.
    chosen = ("TRITON_INTERPRET", "MEMEDIT_KERNELS")
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    command = [sys.executable, "-m", "benchmarks.kernel_resources", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_kernel_compiles_within_its_resources():
    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(" 0 problems")


def test_kernels_compile_for_one_target_within_their_resources(on_triton):
    if on_triton:
        # Compiling does not depend on the backend; once is enough.
        return
    done = run("--target", "sm_90", "--dims", "576")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(" 0 problems")


def test_the_table_meets_the_requirements():
    from benchmarks.kernel_resources import Resources, faults

    rows = [Resources(**row) for row in json.loads(TABLE.read_text())["kernels"]]
    assert {row.target for row in rows} == {"sm_80", "sm_90", "sm_100", "gfx942"}
    uses = {use for row in rows for use in row.used_for}
    assert {f"{dtype} x {dim}" for dtype in ("bf16", "fp32") for dim in (576, 1024, 2048, 4096)} <= uses
    assert faults(rows) == []


def test_the_table_has_the_updates_that_training_runs():
    """With state_rows, which the launchers turn into a kernel of its own."""
    rows = json.loads(TABLE.read_text())["kernels"]
    for kernel in ("sgd_update_kernel", "adagrad_update_kernel", "adam_update_kernel"):
        found = {(row["target"], use) for row in rows if row["kernel"] == kernel for use in row["used_for"]}
        targets = ("sm_80", "sm_90", "sm_100", "gfx942")
        assert {(target, "bf16 x 576") for target in targets} <= found
        assert {(target, "fp32 x 4096") for target in targets} <= found


def test_counts_that_change_compile_nothing_anew(on_triton):
    if on_triton:
        # The interpreter has no specialisation.
        return
    import torch
    from memedit_kernels.slot_rows.triton_kernel import slot_rows_triton

    from benchmarks.kernel_resources import TARGETS, recorded, source_of

    sources = set()
    # 0, 1, and 16 probes: numbers that Triton would otherwise compile for.
    for num_written in (0, 1, 100, 2**15):
        written = torch.arange(num_written)
        (launch,) = recorded(lambda written=written: slot_rows_triton(torch.arange(48), written))
        sources.add(source_of(launch, TARGETS["sm_90"])[0].hash())
    assert len(sources) == 1


def test_faults_are_found():
    from benchmarks.kernel_resources import Resources, differences, faults

    spilled = Resources("slot_bag_kernel", ("bf16 x 576",), "sm_90", 255, 16, 0, 128)
    narrow = Resources("slot_bag_kernel", ("bf16 x 576",), "sm_90", 40, 0, 0, 16)
    assert "stack frame of 16 bytes" in faults([spilled])[0]
    assert "loads 16 bits at most" in faults([narrow])[0]
    assert faults([replace(narrow, kernel="slot_dots_kernel")])
    assert not faults([replace(narrow, kernel="slot_rows_kernel")])
    kept = {"triton": "1", "kernels": [spilled.__dict__]}
    found = {"triton": "1", "kernels": [narrow.__dict__]}
    assert "slot_bag_kernel sm_90 bf16 x 576" in differences(kept, found)[0]
    assert differences(kept, {**found, "triton": "2"}) == []
