"""The ops against what others do, on this machine, in one run.

Command:   python -m benchmarks.ops [--quick] [--rounds N] [--json] [--out FILE]
           (needs pip install -e '.[dev,bench]')
Time:      about 10 minutes on two cores (--quick: 2); 20 GB of memory for the largest table (--quick: 4).
Result:    tests/ops first: no figure is printed when one fails. Then medians [lowest, highest] over the runs
           of all rounds, and ratios. Every contender runs in a process of its own, the contenders of a
           comparison taking turns, so that noise meets all of them; the memory is what the process needs on
           top of the table and the inputs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.ops.bags import BAGS, bytes_moved
from benchmarks.ops.cases import Case
from benchmarks.ops.searches import SEARCHES
from benchmarks.ops.steps import STEPS

ROOT = Path(__file__).parents[2]
# With the base table's bags in every step only the smallest selection is measured.
SELECTIONS = (500, 2_000, 10_000)
Row = dict[str, Any]


def tests_pass(console: Console) -> bool:
    """Run tests/ops; a kernel that is wrong has no speed."""
    console.print("Running tests/ops first ...")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "tests/ops"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        console.print(done.stdout[-3000:])
        console.print("[red]The ops' tests fail: no figures.[/red]")
    return done.returncode == 0


def run_worker(case: Case) -> Row:
    """Measure a case in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ops.worker", json.dumps(asdict(case))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case}\n{done.stderr}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(cases: Sequence[Case], rounds: int, console: Console, title: str) -> list[Row]:
    """Measure cases, each once a round, and return a row for each with the figures of all rounds."""
    turns = [case for _ in range(rounds) for case in cases]
    found: dict[Case, list[Row]] = {case: [] for case in cases}
    for case in track(turns, description=title, console=console):
        found[case].append(run_worker(case))
    rows = []
    for case in cases:
        seconds = sorted(second for row in found[case] for second in row["seconds"])
        rows.append(
            {
                **asdict(case),
                "n": len(seconds),
                "median_ms": 1e3 * statistics.median(seconds),
                "low_ms": 1e3 * seconds[0],
                "high_ms": 1e3 * seconds[-1],
                "extra_mb": max(row["extra_bytes"] for row in found[case]) / 1e6,
            }
        )
    return rows


def step_cases(sizes: Sequence[int], runs: int) -> list[Case]:
    """The update step: every contender and table, memedit also with larger selections."""
    cases = []
    for num_slots in sizes:
        for contender in STEPS:
            case = Case(contender, num_slots=num_slots, runs=runs)
            many = SELECTIONS if contender == "memedit" else SELECTIONS[:1]
            cases += [replace(case, selected=selected) for selected in many]
    return cases


def with_ratios(rows: list[Row], reference: str, key: str = "num_slots") -> list[Row]:
    """Add to each row how many times the reference at the same size its time and its memory are."""
    base = {
        row[key]: row for row in rows if row["contender"] == reference and row["selected"] == SELECTIONS[0]
    }
    for row in rows:
        row["times"] = row["median_ms"] / base[row[key]]["median_ms"]
        row["times_memory"] = row["extra_mb"] / max(base[row[key]]["extra_mb"], 1e-3)
    return rows


def with_bandwidth(rows: list[Row]) -> list[Row]:
    """Add GB/s, and their share of the plain copy's."""
    for row in rows:
        fields = {name: row[name] for name in Case.__dataclass_fields__}
        row["gb_per_s"] = bytes_moved(Case(**fields)) / row["median_ms"] / 1e6
    copied = {row["num_slots"]: row["gb_per_s"] for row in rows if row["contender"] == "copy"}
    for row in rows:
        row["share_of_copy"] = row["gb_per_s"] / copied[row["num_slots"]]
    return rows


def environment() -> Row:
    """What the figures depend on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    import torch

    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": commit,
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


def show(console: Console, title: str, rows: list[Row], columns: dict[str, str]) -> None:
    """Print rows as a table; columns maps a key to its format."""
    shown = Table(title=title)
    for name in columns:
        shown.add_column(name, justify="left" if name == "contender" else "right")
    for row in rows:
        shown.add_row(*(format(row[name], spec) for name, spec in columns.items()))
    console.print(shown)


def main() -> int:
    """Test, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tables of 2^14 and 2^16 slots, one round")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contender (default 2)")
    parser.add_argument("--runs", type=int, default=5, help="timed runs a turn (default 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json)
    if not console.is_terminal:
        # A pipe has no width; names must not be cut.
        console = Console(stderr=arguments.json, width=140)
    if not tests_pass(console):
        return 1
    rounds, runs = (1, 3) if arguments.quick else (arguments.rounds, arguments.runs)
    steps = step_cases([2**14, 2**16] if arguments.quick else [2**14, 2**16, 2**18, 2**20], runs)
    searches = [
        Case(name, num_slots=512**2, runs=2 if name == "brute force" else 4 * runs) for name in SEARCHES
    ]
    sizes = [2**16] if arguments.quick else [2**18, 2**20]
    bags = [Case(name, num_slots=size, runs=4 * runs) for size in sizes for name in BAGS]
    found = {
        "environment": environment(),
        "step": with_ratios(measure(steps, rounds, console, "update step"), "memedit"),
        "search": with_ratios(measure(searches, rounds, console, "product keys"), "product_key_topk"),
        "bag": with_bandwidth(measure(bags, rounds, console, "bags")),
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.json:
        print(json.dumps(found))
        return 0
    times = {"n": "d", "median_ms": ",.1f", "low_ms": ",.1f", "high_ms": ",.1f"}
    ratios = {"times": ",.1f", "extra_mb": ",.0f", "times_memory": ",.1f"}
    sizes_of = {"contender": "", "num_slots": ",d"}
    show(console, "One update step", found["step"], {**sizes_of, "selected": ",d", **times, **ratios})
    show(console, "Product-key search, 4 heads, k = 16", found["search"], {**sizes_of, **times, **ratios})
    bandwidth = {"gb_per_s": ".1f", "share_of_copy": ".2f"}
    show(console, "Bags of rows that do not fit the cache", found["bag"], {**sizes_of, **times, **bandwidth})
    console.print(", ".join(f"{name} {value}" for name, value in found["environment"].items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
