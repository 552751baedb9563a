"""The training bar ends where it said it would, though facts leave early."""

from __future__ import annotations

import pytest


class Counting:
    """A progress with one task that counts what it is told."""

    def __init__(self):
        self.total = self.done = None

    def task(self, description, total):
        return _Counter(self, total) if description == "Training" else _Counter(Counting(), total)


class _Counter:
    def __init__(self, counting, total):
        self.counting = counting
        counting.total, counting.done = total, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, n=1):
        assert n >= 0
        self.counting.done += n

    def describe(self, description):
        pass


@pytest.mark.parametrize("margin", [0.3, 0.999999], ids=["all leave early", "none leaves"])
def test_training_bar_reaches_its_end(work, editor, world, margin):
    progress = Counting()
    work.inject(
        editor, *world.new_facts()[:3], progress=progress, settings=world.world_settings(margin=margin)
    )
    assert progress.done == progress.total > 0
