"""Put a file on disk wholly or not at all, whatever kills the process.

What: `write_durably` (temporary file, fsync, rename, fsync of the folder), the names of temporary files, and
`disk_refused`, which says in plain words what the system would not write.
Why: a patch must never be seen half written, and must not vanish in a power cut once the journal names it.
How: the four steps report to a `StepHook`; tests use it to kill the process between any two of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memedit.errors import StoreError

__all__ = [
    "StepHook",
    "disk_refusal",
    "disk_refused",
    "fsync_folder",
    "ignore_step",
    "remove_temporary_files",
    "temporary_path",
    "write_durably",
]

StepHook = Callable[[str], None]
"""Called with the name of each step after it is done; it may raise, and tests kill the process from it."""

_CHUNK_BYTES = 1 << 20
_SUFFIX = ".tmp"


def ignore_step(name: str) -> None:
    """Do nothing with a step: the hook outside of tests."""


def temporary_path(path: Path) -> Path:
    """Return the name beside `path` under which this process builds it."""
    return path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")


def remove_temporary_files(folder: Path) -> None:
    """Remove what killed processes left half written in `folder`, and SQLite's files beside it.

    The caller holds the lock of the store, so nobody is writing there.
    """
    for path in folder.glob(f".*{_SUFFIX}*"):
        path.unlink(missing_ok=True)


def write_durably(path: Path, payload: bytes, *, on_step: StepHook = ignore_step) -> None:
    """Write `payload` to `path` so that a reader finds the old content or the new one, never a part.

    Args:
        path: Where the file goes; its folder exists.
        payload: The whole content.
        on_step: Told, in this order, "opened", "partly-written" (once for each MiB but the last), "written",
            "fsynced", "renamed", "folder-fsynced".

    Raises:
        OSError: Where the disk refuses; `path` is then as it was before, and no temporary file stays behind.
    """
    temporary = temporary_path(path)
    try:
        _write_and_fsync(temporary, payload, on_step)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    on_step("renamed")
    fsync_folder(path.parent)
    on_step("folder-fsynced")


@contextmanager
def disk_refused(path: Path) -> Iterator[None]:
    """Raise the system's refusal to write `path` as a `StoreError` that says what to do.

    Raises:
        StoreError: For every `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise disk_refusal(path, error) from error


def disk_refusal(path: Path, error: OSError) -> StoreError:
    """Return the error that says that the system refused to write `path`, and what to do."""
    return StoreError(
        f"{path} cannot be written: {error.strerror or error}",
        remedy="Free disk space or make the folder writable, then try again; the store is as it was.",
    )


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut, where the system can (Windows cannot, and need not)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_and_fsync(path: Path, payload: bytes, on_step: StepHook) -> None:
    binary = getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | binary, 0o666)
    try:
        on_step("opened")
        rest = memoryview(payload)
        while rest:
            # os.write may take less than it is given, so what counts is what it says.
            rest = rest[os.write(descriptor, rest[:_CHUNK_BYTES]) :]
            on_step("partly-written" if rest else "written")
        os.fsync(descriptor)
        on_step("fsynced")
    finally:
        os.close(descriptor)
