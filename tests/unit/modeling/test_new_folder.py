"""A folder appears whole or not at all, and two processes do not write the same one."""

from __future__ import annotations

import errno

import pytest
from filelock import FileLock

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


def test_a_full_disk_is_told(tmp_path):
    with (
        pytest.raises(UsageError, match=r"OUT: .*out cannot be written: No space left"),
        new_folder(tmp_path / "out"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_cleared(tmp_path):
    left = tmp_path / ".out.partial" / "build"
    left.mkdir(parents=True)
    (left / "stale").write_text("half")
    fill(tmp_path / "out")
    assert names(tmp_path) == ["file", "inner", "out"]


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
