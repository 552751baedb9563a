"""A progress that is interrupted, as by Ctrl-C."""

from __future__ import annotations

from memedit.progress import NULL_PROGRESS


class Interrupting:
    """A progress that is told of a task and gets Ctrl-C at its first, second, ... sign of life."""

    def __init__(self, description, signs=1):
        self.description, self.signs, self.seen = description, signs, set()

    def task(self, description, total):
        self.seen.add(description)
        return _InterruptingTask(self) if description == self.description else NULL_PROGRESS.task("", None)


class _InterruptingTask:
    def __init__(self, progress):
        self.progress = progress

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, n=1):
        self.progress.signs -= 1
        if self.progress.signs == 0:
            raise KeyboardInterrupt

    def describe(self, description):
        pass
