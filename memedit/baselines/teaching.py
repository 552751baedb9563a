"""What a method is given, and what it hands back.

What: `Teaching`, `Taught`, `taught`.
Why: every method gets the same rows and is measured through the same interface.
How: a module of this package has `teach(teaching)`, a context manager that teaches, yields a respondent that
has learned, and puts the model back to the bit.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from memedit.baselines.meter import Meter
from memedit.baselines.methods import METHODS, Settings
from memedit.editing.plan import EditingSettings
from memedit.editing.rows import TeachingRow, teaching_rows
from memedit.evaluation.respondent import ModelRespondent, Respondent
from memedit.facts import Fact
from memedit.modeling.opening import OpenedModel
from memedit.progress import NULL_PROGRESS, Progress

AfterEpoch = Callable[[int, Respondent], None]


@dataclass(frozen=True)
class Teaching:
    """One method's task.

    Attributes:
        method: its name.
        opened: the model, without edits.
        facts: what is taught.
        settings: the method's settings, all of them.
        seed: of wordings and the order of rows.
        editing: how memedit writes; its number of contexts decides every method's rows.
        meter: counts the teaching alone.
        after_epoch: asked at some passes on the way, the meter paused; None = nobody asks.
        progress: told of what takes time.
    """

    method: str
    opened: OpenedModel
    facts: tuple[Fact, ...]
    settings: Settings
    seed: int
    editing: EditingSettings = field(default_factory=EditingSettings)
    meter: Meter = field(default_factory=Meter)
    after_epoch: AfterEpoch | None = None
    progress: Progress = NULL_PROGRESS

    def rows(self) -> tuple[TeachingRow, ...]:
        """The rows that every method is taught with."""
        made = teaching_rows(
            self.facts,
            self.opened.tokenizer,
            self.opened.model.config,
            seed=self.seed,
            num_contexts=self.editing.num_contexts,
            num_questions=self.editing.num_questions,
            num_decoys=0,
        )
        return made.rows

    def respondent(self) -> ModelRespondent:
        """The model as it is now."""
        return ModelRespondent(self.opened.model, self.opened.tokenizer, self.progress)

    def passed(self, epoch: int, num_epochs: int, respondent: Respondent | None = None) -> None:
        """Let a pass be measured, where it is one of those that are.

        Args:
            epoch: passes done.
            num_epochs: passes in all.
            respondent: who has learned so far; None = the model as it is.
        """
        if self.after_epoch is not None and epoch in checkpoints(num_epochs):
            with self.meter.paused():
                self.after_epoch(epoch, respondent or self.respondent())


@dataclass(frozen=True)
class Taught:
    """What teaching led to.

    Attributes:
        respondent: answers with what was taught.
        ship_bytes: what has to be handed on for another copy of the model to know it.
    """

    respondent: Respondent
    ship_bytes: int


def checkpoints(num_epochs: int) -> set[int]:
    """Passes after which a trajectory is measured: the first ones, then ever fewer, and the last."""
    marks, epoch = {num_epochs}, 1
    while epoch < num_epochs:
        marks.add(epoch)
        epoch = max(epoch + 1, round(epoch * 1.6))
    return marks


def taught(teaching: Teaching) -> AbstractContextManager[Taught]:
    """Teach with the method that is named, for the length of a `with` block."""
    module = importlib.import_module(f"memedit.baselines.{METHODS[teaching.method].module}")
    context: AbstractContextManager[Taught] = module.teach(teaching)
    return context
