"""What teaching costs: seconds and peak memory of the teaching alone, without the measurements in between.

The peak is the largest resident memory of the process while the meter runs. Linux can start that mark anew;
elsewhere it is the largest of the whole process so far, and `exact` is False.
"""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memedit.editing.freed_memory import release_freed_memory

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Meter:
    """A stopwatch and a high-water mark that can be paused.

    Attributes:
        seconds: time that ran.
        cpu_seconds: processor time of all threads meanwhile, which other processes do not lengthen much.
        peak_bytes: largest resident memory while it ran.
        resident_bytes: resident memory when it first started.
        exact: whether the mark could be started anew.
    """

    def __init__(self) -> None:
        self.seconds, self.cpu_seconds = 0.0, 0.0
        self.peak_bytes, self.resident_bytes, self.exact = 0, 0, True
        self._started: tuple[float, float] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count for the length of a `with` block."""
        self._start()
        try:
            yield
        finally:
            self._stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing for the length of a `with` block inside a running one."""
        self._stop()
        try:
            yield
        finally:
            release_freed_memory()
            self._start()

    def _start(self) -> None:
        self.exact = _restart_mark() and self.exact
        resident = _status_bytes("VmRSS")
        self.resident_bytes = self.resident_bytes or resident
        # The system adds pages up late: the mark may lie a few below what it starts from.
        self.peak_bytes = max(self.peak_bytes, resident)
        self._started = time.perf_counter(), time.process_time()

    def _stop(self) -> None:
        assert self._started is not None
        started, cpu_started = self._started
        self.seconds += time.perf_counter() - started
        self.cpu_seconds += time.process_time() - cpu_started
        self._started = None
        self.peak_bytes = max(self.peak_bytes, _status_bytes("VmHWM"))


def _restart_mark() -> bool:
    """Set the high-water mark back to what is resident now (proc(5), clear_refs)."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status_bytes(field: str) -> int:
    """A field of the process's status, or its peak so far where there is no such file."""
    if _STATUS.exists():
        found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
