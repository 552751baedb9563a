"""The ops' benchmark: no figure while their tests fail, and what it makes of the figures."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict

import pytest

from benchmarks.ops import __main__ as ops_benchmark
from benchmarks.ops.cases import Case

TIMES = json.dumps({"seconds": [0.002, 0.001, 0.004], "extra_bytes": 3_000_000})


@pytest.fixture
def started(monkeypatch):
    """Commands that the benchmark started; `fail` makes that of the ops' tests fail."""

    class Started(list):
        fail = False

    commands = Started()

    def run(command, **_):
        commands.append(command)
        code = int(commands.fail and "pytest" in command)
        return subprocess.CompletedProcess(command, code, stdout="1 failed" if code else TIMES, stderr="")

    monkeypatch.setattr(ops_benchmark.subprocess, "run", run)
    return commands


def benchmark(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["benchmarks.ops", *arguments])
    return ops_benchmark.main()


def test_no_figure_while_the_tests_fail(monkeypatch, capsys, started, tmp_path):
    started.fail = True
    assert benchmark(monkeypatch, "--json", "--out", str(tmp_path / "figures.json")) == 1
    assert [command[1:3] for command in started] == [["-m", "pytest"]]
    assert "tests/ops" in started[0]
    assert not (tmp_path / "figures.json").exists()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "1 failed" in printed.err
    assert "no figures" in printed.err


def test_figures_when_they_pass(monkeypatch, capsys, started):
    assert benchmark(monkeypatch, "--json", "--quick") == 0
    assert "pytest" in started[0]
    assert any("benchmarks.ops.worker" in command for command in started[1:])
    found = json.loads(capsys.readouterr().out)
    for row in found["step"] + found["search"] + found["bag"]:
        figures = [row[name] for name in ("n", "median_ms", "low_ms", "high_ms", "extra_mb")]
        assert figures == pytest.approx([3, 2.0, 1.0, 4.0, 3.0])


def figures(contender, num_slots, median_ms, *, selected=500, extra_mb=1.0):
    case = Case(contender, num_slots=num_slots, selected=selected, tokens=10, lookups=3, dim=4)
    return {**asdict(case), "median_ms": median_ms, "extra_mb": extra_mb}


def test_ratios_are_to_the_smallest_selection_at_the_same_size():
    rows = [
        figures("memedit", 100, 2.0, extra_mb=4.0),
        figures("memedit", 100, 6.0, selected=2_000, extra_mb=5.0),
        figures("dense", 100, 8.0, extra_mb=100.0),
        figures("memedit", 200, 4.0, extra_mb=0.0),
        figures("dense", 200, 10.0, extra_mb=2.0),
    ]
    found = ops_benchmark.with_ratios(rows, "memedit")
    assert [row["times"] for row in found] == [1.0, 3.0, 4.0, 1.0, 2.5]
    # A reference that needs nothing counts as a kilobyte.
    assert [row["times_memory"] for row in found] == pytest.approx([1.0, 1.25, 25.0, 0.0, 2000.0])


def test_bandwidth_is_what_must_move_by_the_time_and_by_a_copy_of_that_size():
    rows = [figures("slot_bag", 100, 2.0), figures("copy", 100, 4.0), figures("copy", 200, 1.0)]
    bag, copy, other = ops_benchmark.with_bandwidth(rows)
    # 30 rows of 16 bytes with 12 bytes of routing each, and 10 outputs of 16 bytes, in 2 ms.
    assert bag["gb_per_s"] == pytest.approx((30 * (16 + 12) + 160) / 2e6)
    # Read and written.
    assert copy["gb_per_s"] == pytest.approx(2 * 30 * 16 / 4e6)
    assert bag["share_of_copy"] == pytest.approx(bag["gb_per_s"] / copy["gb_per_s"])
    assert copy["share_of_copy"] == other["share_of_copy"] == 1.0
