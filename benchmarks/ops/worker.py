"""Times one contender in a process of its own and prints what it took as JSON.

Command:   python -m benchmarks.ops.worker '{"contender": "memedit", "num_slots": 16384, ...}'
Result:    {"seconds": [...], "extra_bytes": N}: the time of each run after a warm-up, and how far the
           process's memory rose above what the table and the inputs take.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from pathlib import Path

from benchmarks.ops.bags import BAGS
from benchmarks.ops.cases import Case
from benchmarks.ops.searches import SEARCHES
from benchmarks.ops.steps import STEPS

CONTENDERS = {**STEPS, **SEARCHES, **BAGS}


def measure(case: Case) -> dict[str, object]:
    """Prepare a contender, warm it up, run it, and return its times and its peak memory."""
    prepared = CONTENDERS[case.contender](case)
    gc.collect()
    before = _resident_bytes()
    _forget_peak()
    run = prepared()
    run()
    seconds = []
    for _ in range(case.runs):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "extra_bytes": max(0, _peak_bytes() - before)}


def _status(key: str) -> int | None:
    """A figure of /proc/self/status in bytes; None where there is no such file."""
    file = Path("/proc/self/status")
    if not file.exists():
        return None
    lines = (line.split() for line in file.read_text().splitlines())
    return next(int(line[1]) * 1024 for line in lines if line[0] == f"{key}:")


def _resident_bytes() -> int:
    return _status("VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _peak_bytes() -> int:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    """Start the peak anew, so that what making the inputs took is not counted (Linux)."""
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")


if __name__ == "__main__":
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])))))
