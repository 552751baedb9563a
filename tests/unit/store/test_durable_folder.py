"""A folder appears whole or not at all, whatever ends the process that writes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from memedit.errors import StoreError, UsageError
from memedit.store.durable_folder import require_free, written_folder


def test_a_folder_appears_whole(tmp_path):
    out = tmp_path / "above" / "out"
    with written_folder(out) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("a")
        assert not out.exists()
    assert (out / "inner" / "file").read_text() == "a"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_files_may_be_read_by_whoever_may_read_the_folder(tmp_path):
    with written_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("a")
        (folder / "file").chmod(0o600)
    assert (tmp_path / "out" / "file").stat().st_mode & 0o777 == (tmp_path / "out").stat().st_mode & 0o666


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    require_free(out)
    with written_folder(out) as folder:
        (folder / "file").write_text("a")
    for taken in (out, out / "file"):
        with pytest.raises(UsageError, match="OUT must be a new or empty folder"), written_folder(taken):
            pass
    assert (out / "file").read_text() == "a"


@pytest.mark.parametrize(
    ("error", "raised"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), StoreError)],
)
def test_what_fails_leaves_nothing(tmp_path, error, raised):
    def fail():
        with written_folder(tmp_path / "out") as folder:
            (folder / "file").write_text("a")
            raise error

    with pytest.raises(raised):
        fail()
    assert list(tmp_path.iterdir()) == []


CHILD = """
import os, signal, sys
from pathlib import Path
from memedit.store.durable_folder import written_folder
with written_folder(Path(sys.argv[1])) as folder:
    (folder / "file").write_text("a")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", CHILD, str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    (left,) = tmp_path.iterdir()
    running = tmp_path / f".out.{os.getppid()}.tmp"
    running.mkdir()
    with written_folder(out):
        pass
    assert not left.exists()
    assert running.exists(), "what another process is writing is left alone"
    assert out.is_dir()
