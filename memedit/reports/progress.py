"""Progress bars on the terminal: the one implementation of memedit.progress that shows something.

What: `rich_progress`.
Why: training takes a minute and a download several; a person must see what is done, how fast, how long still.
How: bars on stderr, so that stdout holds results only; silent where stderr is no terminal (pipes, CI); a
finished bar goes away, since the report that follows has the times. Tasks may run inside each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.progress import Task as BarState
from rich.text import Text

from memedit.progress import NULL_PROGRESS, Progress, Task
from memedit.reports.console import one_line

__all__ = ["rich_progress"]

_LARGE = 100_000


@contextmanager
def rich_progress(console: Console | None = None) -> Iterator[Progress]:
    """Show progress for the length of a `with` block.

    Args:
        console: Where to; None takes stderr.
    Returns:
        A context manager that yields the progress to hand on; it shows nothing where there is no terminal.
    """
    console = Console(stderr=True) if console is None else console
    if not console.is_terminal or console.is_dumb_terminal:
        yield NULL_PROGRESS
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        _Count(),
        _Rate(),
        _Time(),
    )
    # What is printed to stdout meanwhile is a result: it must not be moved to stderr.
    with Bars(*columns, console=console, transient=True, redirect_stdout=False, refresh_per_second=4) as bars:
        yield _RichProgress(bars)


class _RichTask:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        self._bars.advance(self._task, n)

    def describe(self, description: str) -> None:
        """Replace the text shown beside the bar."""
        self._bars.update(self._task, description=one_line(description))


class _RichProgress:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Task]:
        """Show a bar for the length of a `with` block."""
        task = self._bars.add_task(one_line(description), total=total)
        try:
            yield _RichTask(self._bars, task)
        finally:
            self._bars.remove_task(task)


class _Count(ProgressColumn):
    """Units done, of how many."""

    def render(self, task: BarState) -> Text:
        done = _number(task.completed, task.total or task.completed)
        if task.total is None:
            return Text(done if task.completed else "")
        return Text(f"{done}/{_number(task.total, task.total)}")


class _Rate(ProgressColumn):
    """Units per second, or seconds per unit where that is the readable one."""

    def render(self, task: BarState) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{_number(speed, speed)}/s" if speed >= 1 else f"{1 / speed:.1f} s each", style="dim")


class _Time(ProgressColumn):
    """Time left; time taken where no one can know what is left."""

    max_refresh = 0.5

    def render(self, task: BarState) -> Text:
        if task.total is not None and task.time_remaining is not None:
            return Text(f"{_clock(task.time_remaining)} left", style="cyan")
        return Text(f"{_clock(task.elapsed or 0)} so far", style="dim")


def _number(value: float, largest: float) -> str:
    if largest >= _LARGE:
        return f"{value / 1e6:,.1f}M"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
