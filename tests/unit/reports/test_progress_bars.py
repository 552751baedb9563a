"""Progress bars: what they show on a terminal, and silence elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from memedit.progress import NULL_PROGRESS
from memedit.reports.progress import rich_progress


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None, _environ={})


def test_silent_without_a_terminal(capsys):
    with rich_progress() as progress:
        assert progress is NULL_PROGRESS
    console = Console(file=io.StringIO())
    with rich_progress(console) as progress, progress.task("training", 3) as task:
        task.advance()
    assert console.file.getvalue() == ""
    assert capsys.readouterr() == ("", "")


def test_description_count_and_nested_tasks():
    console = terminal()
    with rich_progress(console) as progress, progress.task("training [1/2]", 60) as outer:
        outer.advance(7)
        with progress.task("downloading", 93_000_000) as inner:
            inner.advance(31_000_000)
            inner.describe("still\ndownloading")
            progress._bars.refresh()
        screen = console.file.getvalue()
        assert "training [1/2]" in screen
        assert "7/60" in screen
        assert "still downloading" in screen
        assert "31.0M/93.0M" in screen
        assert len(progress._bars.tasks) == 1
    assert progress._bars.tasks == []


def test_rate_and_time_left():
    console = terminal()
    with rich_progress(console) as progress, progress.task("training", 60) as task:
        now = 0.0

        def clock():
            return now

        progress._bars.get_time = clock
        state = progress._bars.tasks[0]
        state._get_time = clock
        state.start_time = 0.0
        for _ in range(10):
            now += 0.5
            task.advance(1)
        progress._bars.refresh()
        screen = console.file.getvalue()
        assert "2/s" in screen
        assert "0:25 left" in screen


def test_unknown_total_shows_time_taken():
    console = terminal()
    with rich_progress(console) as progress, progress.task("unpacking", None) as task:
        task.advance(3)
        progress._bars.refresh()
        assert "0:00 so far" in console.file.getvalue()


def test_bars_go_away_when_the_work_fails():
    console = terminal()
    with (
        pytest.raises(ZeroDivisionError),
        rich_progress(console) as progress,
        progress.task("training", 3),
    ):
        _ = 1 / 0
    assert progress._bars.tasks == []
    assert not progress._bars.live.is_started


def test_results_on_stdout_stay_there(capsys):
    with rich_progress(terminal()) as progress, progress.task("training", 3):
        print("result")
    assert capsys.readouterr().out == "result\n"
