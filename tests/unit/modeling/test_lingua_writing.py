"""How a conversion reads and writes: a piece at a time, shared storages once, whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from lingua_checkpoints import Layout, lingua_params, lingua_weights, write_checkpoint
from safetensors.torch import load_file

from memedit.errors import UsageError
from memedit.modeling import load_memory_llama, safetensors_writing
from memedit.modeling.lingua.conversion import convert_lingua
from memedit.modeling.safetensors_writing import StoredTensor, write_safetensors
from memedit.progress import NULL_PROGRESS

TESTS = Path(__file__).parents[2]


class Recorded:
    """A progress that notes its tasks, and does something at every step."""

    def __init__(self, on_step=lambda: None):
        self.totals, self.done, self.on_step = {}, {}, on_step

    @contextmanager
    def task(self, description, total):
        self.totals[description], self.done[description] = total, 0
        self.current = description
        yield self

    def advance(self, n=1):
        self.done[self.current] += n
        self.on_step()

    def describe(self, description):
        raise AssertionError(description)


def test_file_is_what_the_library_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_writing, "_PIECE_BYTES", 64)
    tensors = {
        "odd": torch.randn(37, 3).to(torch.bfloat16),
        "b.wide": torch.randn(5, 63),
        "a.cube": torch.randn(3, 2, 7),
        "half": torch.randn(9).half(),
        "transposed": torch.randn(6, 11).T,
        "cast": torch.randn(10, 10).to(torch.bfloat16),
    }
    types = {name: torch.float32 if name == "cast" else tensor.dtype for name, tensor in tensors.items()}
    stored = [
        StoredTensor(name, types[name], tuple(tensor.shape), lambda tensor=tensor: tensor)
        for name, tensor in tensors.items()
    ]
    with (progress := Recorded()).task("writing", sum(each.num_bytes for each in stored)) as task:
        write_safetensors(tmp_path / "file.safetensors", stored, task)
    assert progress.done == progress.totals
    loaded = load_file(tmp_path / "file.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == types[name]
        assert torch.equal(loaded[name], tensor.to(types[name])), name
        assert loaded[name].data_ptr() % loaded[name].dtype.itemsize == 0


def test_one_storage_is_not_read_twice(tmp_path):
    layout = Layout(memory=(0, 1, 3))
    weights = lingua_weights(layout)
    table = weights["layers.0.feed_forward.values.weight"]
    write_checkpoint(tmp_path / "shared", weights, lingua_params(layout))
    convert_lingua(tmp_path / "shared", tmp_path / "one", progress=(shared := Recorded()))
    assert list(shared.totals) == ["Writing model.safetensors"]

    copied = {name: weight.clone() for name, weight in weights.items()}
    write_checkpoint(tmp_path / "copied", copied, lingua_params(layout))
    convert_lingua(tmp_path / "copied", tmp_path / "two", progress=(apart := Recorded()))
    assert apart.totals["Comparing copies of shared weights"] == 2 * table.nbytes
    for progress in (shared, apart):
        assert progress.done == progress.totals
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert first == second


def anonymous_bytes():
    """What this process holds of memory that no file backs."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_stays_below_the_largest_tensor(tmp_path):
    # A table of 67 MB under two layers that stored it apart: 134 MB of the file's 135.
    layout = Layout(n_layers=3, memory=(0, 2), mem_n_keys=592, mem_k_dim=4)
    weights = {name: weight.clone() for name, weight in lingua_weights(layout).items()}
    largest = weights["layers.0.feed_forward.values.weight"].nbytes
    assert largest > 64e6
    write_checkpoint(tmp_path / "checkpoint", weights, lingua_params(layout))
    del weights
    seen = []
    before = anonymous_bytes()
    convert_lingua(
        tmp_path / "checkpoint",
        tmp_path / "out",
        progress=Recorded(lambda: seen.append(anonymous_bytes() - before)),
    )
    assert len(seen) > 10
    assert max(seen) < largest


class Broken(Exception):
    """Raised by a progress in the middle of writing."""


@pytest.mark.parametrize("raised", [Broken(), KeyboardInterrupt()])
def test_an_interrupted_conversion_leaves_nothing(tmp_path, raised):
    layout = Layout()
    write_checkpoint(tmp_path / "checkpoint", lingua_weights(layout), lingua_params(layout))

    def fail():
        assert list(tmp_path.glob(".out.partial/build/model.safetensors"))
        raise raised

    with pytest.raises(type(raised)):
        convert_lingua(tmp_path / "checkpoint", tmp_path / "out", progress=Recorded(fail))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


_CHILD = """
import os, signal, sys
from test_lingua_writing import Recorded
from memedit.modeling.lingua.conversion import convert_lingua
convert_lingua(sys.argv[1], sys.argv[2], progress=Recorded(lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_conversion_leaves_no_folder_and_the_next_one_clears_up(tmp_path):
    layout = Layout()
    checkpoint = write_checkpoint(tmp_path / "checkpoint", lingua_weights(layout), lingua_params(layout))
    paths = os.pathsep.join([str(Path(__file__).parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, checkpoint, tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.partial" / "build" / "model.safetensors").exists()
    convert_lingua(checkpoint, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "out"]
    load_memory_llama(tmp_path / "out")


def test_a_disk_that_refuses_is_told(tmp_path, monkeypatch):
    layout = Layout()
    write_checkpoint(tmp_path / "checkpoint", lingua_weights(layout), lingua_params(layout))

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memedit.modeling.lingua.conversion.write_safetensors", refuse)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        convert_lingua(tmp_path / "checkpoint", tmp_path / "out", progress=NULL_PROGRESS)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
