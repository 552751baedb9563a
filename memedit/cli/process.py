"""What a memedit process asks of the system before torch is imported: memory given back, cores shared.

What: `prepare_process`, called once by the command line; a library must not change its host's settings.
Why: training allocates and frees blocks of many sizes; glibc keeps them, and a process of 1.1 GB grew to 1.9 GB.
OpenMP's threads spin while they wait; with one other busy process on two cores that made training six times slower.
How: glibc's `mallopt` through ctypes (nothing happens elsewhere), and OMP_WAIT_POLICY unless the user set it.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["prepare_process"]

# Names of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_BLOCK_BYTES = 1 << 20


def prepare_process() -> None:
    """Let big blocks go back to the system at once, and let waiting threads sleep."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _BLOCK_BYTES)
