"""Make a folder wholly or not at all, whatever kills the process.

What: `new_folder` hands out a hidden folder beside the wanted one, and gives it the wanted name once all of
it is on disk; `require_new_folder` refuses a place that is in use; `fsync_path`.
Why: a model folder with half its weights looks like a model. Imports nothing heavy, so that a command can
refuse before torch is loaded.
How: what a killed process left behind lies in the hidden folder; the next call for that place clears it. A
lock in it keeps two processes apart.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from memedit.errors import UsageError

__all__ = ["LOCK_FILE", "alone", "fsync_path", "new_folder", "put_in_place", "require_new_folder"]

LOCK_FILE = "lock"


def require_new_folder(out: Path) -> None:
    """Refuse a place where something lies already.

    Args:
        out: Where a folder is to be made.
    Raises:
        UsageError: It is a file, or a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"OUT must be a new or empty folder, {out} is not", remedy="Choose another folder.")


def fsync_path(path: Path) -> None:
    """Make a file's content, or the names in a folder, survive a power cut (Windows has no such folders)."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Make a folder that is seen whole or not at all.

    Args:
        out: The folder to make; an empty one may be there.
    Returns:
        A context manager that yields the folder to fill, which becomes `out` at the end of the `with` block.
        When the block fails, nothing stays behind.
    Raises:
        UsageError: Something lies there already, another process makes the same folder, or the disk refuses.
    """
    require_new_folder(out)
    target = out.absolute()
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with alone(partial, out):
            yield from _filled(partial / "build", target)
        shutil.rmtree(partial, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        # A full disk is safetensors' own error where it writes.
        raise UsageError(
            f"OUT: {out} cannot be written: {getattr(error, 'strerror', None) or error}",
            remedy="Free disk space, or choose a folder that can be written.",
        ) from error


def _filled(build: Path, target: Path) -> Iterator[Path]:
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir()
    try:
        yield build
        put_in_place(build, target)
    except BaseException:
        shutil.rmtree(build.parent, ignore_errors=True)
        raise


def put_in_place(build: Path, target: Path) -> None:
    """Give a folder that is filled its name, once all of it is on disk.

    Args:
        build: The folder, on the same disk.
        target: Its new name; an empty folder may be there.
    Raises:
        UsageError: Something lies there.
    """
    # Some libraries make files that nobody else may read.
    readable = build.stat().st_mode & 0o666
    for path in (*build.rglob("*"), build):
        if path.is_file():
            path.chmod(readable)
        fsync_path(path)
    require_new_folder(target)
    if target.is_dir():
        target.rmdir()
    build.replace(target)
    fsync_path(target.parent)


@contextmanager
def alone(partial: Path, out: Path) -> Iterator[None]:
    """Keep other processes from making the same folder.

    Args:
        partial: Where the lock lies.
        out: The folder that is made, for the message.
    Raises:
        UsageError: Another process makes it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(partial / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(
            f"OUT: another process is writing {out}",
            remedy="Wait for it, or choose another folder.",
        ) from error
    try:
        yield
    finally:
        lock.release()
