"""How long work tells what it is doing, without knowing who listens.

What: the `Progress` and `Task` protocols and `NULL_PROGRESS`, which does nothing.
Why: the library must not print; the command line passes a rich implementation (memedit.reports.progress).
How: `with progress.task("training", total=60) as task: ...; task.advance()`. Imports nothing heavy.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

__all__ = ["NULL_PROGRESS", "Progress", "Task"]


class Task(Protocol):
    """One running piece of work."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        ...

    def describe(self, description: str) -> None:
        """Replace the text shown beside the bar."""
        ...


class Progress(Protocol):
    """Something that can show tasks."""

    def task(self, description: str, total: int | None) -> AbstractContextManager[Task]:
        """Show a task for the length of a `with` block.

        Args:
            description: What is done, in a few words.
            total: Number of units, or None when it is not known.
        Returns:
            A context manager that yields the task and removes or finishes its bar on exit.
        """
        ...


class _NullTask:
    def __enter__(self) -> _NullTask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def advance(self, n: int = 1) -> None:
        """Do nothing."""

    def describe(self, description: str) -> None:
        """Do nothing."""


class _NullProgress:
    def task(self, description: str, total: int | None) -> AbstractContextManager[Task]:
        """Show nothing."""
        return _NullTask()


NULL_PROGRESS: Progress = _NullProgress()
"""The progress that shows nothing: the default everywhere in the library."""
