"""A folder appears whole or not at all, and two processes do not write the same one."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys

import pytest
from filelock import FileLock
from safetensors import SafetensorError

from memedit.errors import UsageError
from memedit.modeling.new_folder import new_folder


def fill(out):
    with new_folder(out) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("whole")
        assert not out.exists() or not any(out.iterdir())


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_made(tmp_path, there):
    out = tmp_path / "deep" / "out"
    if there:
        out.mkdir(parents=True)
    fill(out)
    assert names(tmp_path) == ["deep", "file", "inner", "out"]
    assert (out / "inner" / "file").read_text() == "whole"


def test_a_relative_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(type(tmp_path)("out"))
    assert names(tmp_path) == ["file", "inner", "out"]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_nothing_stays_of_a_failure(tmp_path, error):
    def fail():
        with new_folder(tmp_path / "out") as folder:
            (folder / "file").write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_cleared(tmp_path):
    left = tmp_path / ".out.partial" / "build"
    left.mkdir(parents=True)
    (left / "stale").write_text("half")
    fill(tmp_path / "out")
    assert names(tmp_path) == ["file", "inner", "out"]


CHILD = """
import os, signal, sys
from pathlib import Path
from memedit.modeling.new_folder import new_folder
with new_folder(Path(sys.argv[1])) as folder:
    (folder / "file").write_text("a")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_process_left_that_was_killed_in_the_middle_is_cleared_by_the_next(tmp_path):
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", CHILD, str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    (left,) = tmp_path.iterdir()
    fill(out)
    assert not left.exists()
    assert names(tmp_path) == ["file", "inner", "out"]


def test_files_may_be_read_by_whoever_may_read_the_folder(tmp_path):
    with new_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("a")
        (folder / "file").chmod(0o600)
    assert (tmp_path / "out" / "file").stat().st_mode & 0o777 == (tmp_path / "out").stat().st_mode & 0o666


def test_a_file_in_the_place_is_refused(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(UsageError, match="OUT must be a new or empty folder"):
        fill(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left on device")]
)
def test_what_the_disk_refuses_is_told_whoever_wrote(tmp_path, error):
    with (
        pytest.raises(UsageError, match=r"OUT: .*out cannot be written: No space left"),
        new_folder(tmp_path / "out"),
    ):
        raise error
    assert names(tmp_path) == []


def test_two_writers(tmp_path):
    (tmp_path / ".out.partial" / "build").mkdir(parents=True)
    with (
        FileLock(tmp_path / ".out.partial" / "lock"),
        pytest.raises(UsageError, match="another process is writing"),
    ):
        fill(tmp_path / "out")
    assert (tmp_path / ".out.partial" / "build").is_dir()


@pytest.mark.parametrize("before", [True, False])
def test_what_lies_there_is_not_touched(tmp_path, before):
    out = tmp_path / "out"

    def occupy():
        out.mkdir()
        (out / "thesis").write_text("precious")

    if before:
        occupy()

    def intrude():
        with new_folder(out):
            assert not before
            occupy()

    with pytest.raises(UsageError, match="OUT must be a new or empty folder"):
        intrude()
    assert names(tmp_path) == ["out", "thesis"]
