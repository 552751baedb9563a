"""What a memedit process asks of the system before torch is imported: memory given back, cores shared.

What: `prepare_process`, called once by the command line; a library must not change its host's settings.
Why: training allocates and frees blocks of many sizes, which glibc keeps; OpenMP's threads spin while they
wait, and slow each other down where another process needs the core; oneDNN keeps a compiled kernel for each
of a thousand shapes, and answers come in many.
How: glibc's `mallopt` through ctypes (nothing happens elsewhere), and environment variables unless the user
set them.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["prepare_process"]

# Names of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_BLOCK_BYTES = 1 << 20
_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "LRU_CACHE_CAPACITY": "32",  # the cache in front of oneDNN's, torch's own
}


def prepare_process() -> None:
    """Let big blocks go back to the system at once, keep few compiled kernels, let waiting threads sleep."""
    for name, setting in _ENVIRONMENT.items():
        os.environ.setdefault(name, setting)
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _BLOCK_BYTES)
