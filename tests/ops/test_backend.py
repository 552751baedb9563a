"""MEMEDIT_KERNELS: what runs, and what is said when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from memedit_kernels import backend
from memedit_kernels.slot_rows import slot_rows

LOOK_UP = """
import sys, torch
from memedit_kernels.slot_rows import slot_rows
print(slot_rows(torch.tensor([3, 4]), torch.tensor([4])).tolist())
print("memedit_kernels.slot_rows.triton_kernel" in sys.modules)
"""


def look_up_with(**variables):
    environment = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    return subprocess.run(
        [sys.executable, "-c", LOOK_UP],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


_VARIABLES = ("MEMEDIT_KERNELS", "TRITON_INTERPRET")


def test_a_first_call_does_not_load_the_compiler():
    code = LOOK_UP + "print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_the_compiler_is_kept_out_once_it_is_loaded():
    code = LOOK_UP + (
        "import torch._dynamo\n"
        "from memedit_kernels.slot_rows.op import _slot_rows\n"
        "compiled = torch.compile(lambda s, w: slot_rows(s, w) + 1, fullgraph=True, backend='eager')\n"
        "print(compiled(torch.tensor([3, 4]), torch.tensor([4])).tolist())\n"
        "guard = _slot_rows._backend_fns[None].__wrapped__.__dict__['__dynamo_disable']\n"
        "print(type(guard).__name__ == '_Deferred')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-2:] == ["[0, 1]", "False"], done.stderr


@pytest.mark.parametrize("choice", ["", "auto", "reference"])
def test_the_cpu_runs_the_reference_without_loading_its_kernels(choice):
    done = look_up_with(MEMEDIT_KERNELS=choice)
    assert done.stdout.splitlines() == ["[-1, 0]", "False"], done.stderr


def test_triton_runs_in_the_interpreter_when_asked_for():
    done = look_up_with(MEMEDIT_KERNELS="triton", TRITON_INTERPRET="1")
    assert done.stdout.splitlines() == ["[-1, 0]", "True"], done.stderr


def test_triton_on_the_cpu_is_an_error_that_says_what_to_do():
    done = look_up_with(MEMEDIT_KERNELS="triton")
    said = "KernelsUnavailable: MEMEDIT_KERNELS=triton, but the tensors are on the CPU: unset it"
    assert said in done.stderr


def test_an_unknown_choice_is_an_error():
    done = look_up_with(MEMEDIT_KERNELS="fast")
    assert "ValueError: MEMEDIT_KERNELS: got 'fast', expected one of auto, reference, triton" in done.stderr


def test_missing_triton_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("MEMEDIT_KERNELS", "triton")
    with pytest.raises(backend.KernelsUnavailable, match=r"pip install 'memedit\[triton\]'"):
        backend.require("cuda")
    monkeypatch.setenv("MEMEDIT_KERNELS", "auto")
    assert backend.require("cuda") == "reference"


def test_auto_takes_triton_on_gpus_only(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("MEMEDIT_KERNELS", "auto")
    assert (backend.require("cuda"), backend.require("cpu")) == ("triton", "reference")
    monkeypatch.setenv("MEMEDIT_KERNELS", "reference")
    assert backend.require("cuda") == "reference"


def test_a_gpu_without_triton_is_told_once(monkeypatch):
    monkeypatch.setattr(backend, "_warned", False)
    with pytest.warns(UserWarning, match="plain torch on this GPU"):
        backend._warn_without_triton()
    backend._warn_without_triton()


def test_this_process_runs_what_it_was_told(on_triton, monkeypatch):
    called = []
    module = "memedit_kernels.slot_rows.triton_kernel" if on_triton else "memedit_kernels.slot_rows.op"
    name = "slot_rows_triton" if on_triton else "slot_rows_reference"
    __import__(module)
    original = getattr(sys.modules[module], name)
    monkeypatch.setattr(f"{module}.{name}", lambda *given: called.append(name) or original(*given))
    slot_rows(torch.tensor([1]), torch.tensor([1]))
    assert called == [name]
