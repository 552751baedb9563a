"""The course of a training: which rows are due in each pass, and when a fact leaves.

Every fact's rows are all read in the first passes. From then on only rows that are not right with margin are
due, and as many of the fact's others, the longest unread first: to read all of them would cost most and move
little, to read none would let them be forgotten. A fact leaves when every row was right with margin in this
pass or the one before. Where some were not read as lately, the fact is examined: all its rows are read in one
more pass, and it leaves when each is right there.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch


class CourseSettings(Protocol):
    """What a course needs to know of the training's settings."""

    @property
    def min_epochs(self) -> int:
        """Passes in which all rows are due."""
        ...

    @property
    def margin(self) -> float:
        """Probability that every answer token has to reach."""
        ...


class Course:
    """Keeps count of rows and facts.

    Args:
        facts: index of the fact of each row.
        num_facts: facts in the batch, those without a row included.
        settings: passes and margin.

    Attributes:
        learned: bool [facts], left with every row right.
        epochs: int64 [facts], passes until then, or all.
    """

    def __init__(self, facts: Sequence[int], num_facts: int, settings: CourseSettings) -> None:
        self.facts = torch.tensor(facts, dtype=torch.int64)
        self.settings, self.passes = settings, 0
        self.learned = torch.zeros(num_facts, dtype=torch.bool)
        self.epochs = torch.zeros(num_facts, dtype=torch.int64)
        self.worst = torch.full((len(facts),), float("inf"))
        self.last_read = torch.zeros(len(facts), dtype=torch.int64)
        self.reads = 0

    def due(self) -> list[int]:
        """Rows of this pass, as their indices."""
        active = ~self.learned[self.facts]
        if self.passes < self.settings.min_epochs:
            return active.nonzero().flatten().tolist()
        # Right in every row and still here: the rows were not all read lately, so the fact is examined.
        examined = ~self._marked(~self._right())
        due = ~self._right() | examined[self.facts] | self._reviewed()
        return (active & due).nonzero().flatten().tolist()

    def _reviewed(self) -> torch.Tensor:
        """For each fact as many of the rows that are right as are wrong, the longest unread first."""
        right = self._right()
        wrong = torch.bincount(self.facts[~right], minlength=len(self.learned))
        order = self.last_read.argsort(stable=True)
        order = order[right[order]]
        order = order[self.facts[order].argsort(stable=True)]
        place = torch.arange(len(order)) - torch.searchsorted(self.facts[order], self.facts[order])
        reviewed = torch.zeros_like(right)
        reviewed[order] = place < wrong[self.facts[order]]
        return reviewed

    def seen(self, rows: Sequence[int], worst: Sequence[float]) -> None:
        """Take down the largest loss per answer token of rows that were read."""
        self.worst[list(rows)] = torch.tensor(worst)
        self.last_read[list(rows)] = self.passes + 1
        self.reads += len(rows)

    def end_pass(self) -> None:
        """Let facts leave."""
        taught = self._marked(torch.ones_like(self.facts, dtype=torch.bool))
        self.epochs[taught & ~self.learned] = self.passes + 1
        self.passes += 1
        if self.passes < self.settings.min_epochs:
            return
        unsure = ~self._right() | (self.last_read < self.passes - 1)
        self.learned |= taught & ~self._marked(unsure)

    def _marked(self, rows: torch.Tensor) -> torch.Tensor:
        """The facts of which any row is marked, bool [facts]."""
        facts = torch.zeros_like(self.learned)
        facts[self.facts[rows]] = True
        return facts

    def _right(self) -> torch.Tensor:
        return self.worst <= -math.log(self.settings.margin)
