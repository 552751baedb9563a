"""Giving freed memory back to the system between the phases of an edit.

Generation, perplexity and training each allocate and free hundreds of megabytes in blocks of many sizes;
glibc keeps what is freed, and what one phase left in pieces the next cannot use.
"""

import ctypes
import sys


def release_freed_memory() -> None:
    """Hand free heap pages back to the system (glibc; elsewhere nothing happens)."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
