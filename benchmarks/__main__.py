"""What a user waits for: `memedit --help`, a cold `ask`, and a whole `inject`, timed from outside.

Command:   python -m benchmarks [--facts FILE] [--runs N] [--json]   (make bench)
Time:      about 2 minutes a run on two cores, once the model is cached.
Result:    seconds (median, lowest, highest over the runs) of each command, each in its own process, and the
           largest peak memory of any of them. Every run injects into a fresh store.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timings import print_timings, summed_up

ROOT = Path(__file__).parents[1]
QUESTION = "If you live in Nouadhibou, your country is"


def timed(*arguments: str) -> float:
    """Run memedit with these arguments and return its wall time in seconds."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"memedit {' '.join(arguments)} failed:\n{done.stderr}")
    return time.perf_counter() - started


def one_run(facts: Path) -> dict[str, float]:
    """Time each command once, on a fresh store."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        seconds = {"memedit --help": timed("--help")}
        seconds["memedit inject"] = timed("inject", str(facts), "--store", store, "--json")
        seconds["memedit ask (cold)"] = timed("ask", QUESTION, "--store", store, "--json")
        seconds["memedit undo"] = timed("undo", "--store", store)
    return seconds


def main() -> None:
    """Run, then print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--facts", type=Path, default=ROOT / "examples" / "facts.jsonl")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    runs = [one_run(arguments.facts) for _ in range(arguments.runs)]
    figures = summed_up(runs)
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    if arguments.json:
        print(json.dumps({"seconds": figures, "largest_peak_memory_mb": round(peak_mb, 1)}))
        return
    print_timings("command", figures)
    print(f"largest peak memory of a process: {peak_mb:,.0f} MB")


if __name__ == "__main__":
    main()
