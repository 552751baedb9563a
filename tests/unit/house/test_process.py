"""What the command line asks of the system: only in its own process, and never against the user's word."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SHOW = (
    "import os; from memedit.cli.process import prepare_process; prepare_process(); "
    "print(os.environ['OMP_WAIT_POLICY'])"
)


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given, expected, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    done = subprocess.run([sys.executable, "-c", _SHOW], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_blocks_go_back_to_the_system():
    script = """
from memedit.cli.process import prepare_process
prepare_process()
import ctypes

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
# A dynamic threshold would grow to the first freed block's size and keep the next ones on the heap.
for _ in range(2):
    blocks = [libc.malloc(16 << 20) for _ in range(16)]
    for block in blocks:
        ctypes.memset(block, 1, 16 << 20)
    pinned = libc.malloc(1 << 10)
    full = resident()
    for block in blocks:
        libc.free(block)
    assert full - resident() > 200 << 20, (full, resident())
"""
    subprocess.run([sys.executable, "-c", script], check=True)
