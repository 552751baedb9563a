"""Put a folder of files on disk wholly or not at all, whatever kills the process.

What: `written_folder`, which yields a hidden folder beside the wanted one and renames it at the end, and
`require_free`, which refuses a place that is taken before any work is done.
Why: half a model that looks like a whole one is worse than none.
How: files and folder are synced before the rename. What a killed process left half written is removed by the
next one that writes the same folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memedit.errors import UsageError
from memedit.store.durable_file import disk_refused, fsync_folder, temporary_path

__all__ = ["require_free", "written_folder"]


def require_free(out: Path) -> None:
    """Refuse a folder that holds something already.

    Raises:
        UsageError: Where `out` is a file, or a folder with something in it.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"OUT must be a new or empty folder, {out} is not", remedy="Choose another folder.")


@contextmanager
def written_folder(out: Path) -> Iterator[Path]:
    """Make a folder that appears whole at the end of a `with` block.

    Args:
        out: The folder; it is not there yet, or is empty. The folders above it are made.

    Returns:
        A context manager that yields the folder to write into; where the block fails, nothing is left of it.

    Raises:
        UsageError: Where `out` holds something already.
        StoreError: Where the disk refuses.
    """
    require_free(out)
    out = out.absolute()
    temporary = temporary_path(out)
    with disk_refused(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        temporary.mkdir()
        try:
            yield temporary
            # Some libraries make files that nobody else may read.
            readable = temporary.stat().st_mode & 0o666
            for path in (*temporary.rglob("*"), temporary):
                _fsync(path, readable)
            temporary.rename(out)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_folder(out.parent)


def _remove_leftovers(out: Path) -> None:
    """Remove what processes that are gone, or an earlier try of this one, left of `out`."""
    for path in out.parent.glob(f".{out.name}.*{temporary_path(out).suffix}"):
        process = path.name.split(".")[-2]
        if process.isdecimal() and (int(process) == os.getpid() or not _is_running(int(process))):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fsync(path: Path, mode: int) -> None:
    if path.is_dir():
        fsync_folder(path)
        return
    path.chmod(mode)
    with path.open("rb") as file:
        os.fsync(file.fileno())
