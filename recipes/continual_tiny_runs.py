"""The runs of recipes/continual_tiny.py: one batch, a sequence of batches, and the choice among settings.

What: `Course` (a method with settings), `one_batch`, `sequence`, `best`.
Why: settings are chosen on other facts and another model than those that are reported, by one rule for all.
How: of the candidates that learn LEVEL of the new facts in held-out wordings, the one that forgets least;
where none does, the one that learns most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continual_tiny_measures import Exam, Sizes, Values, asked, forgotten, share
from continual_tiny_methods import Learner, learner

from memedit.baselines.teaching import checkpoints

# A little above the level that is asked for, so that other facts reach it too.
LEVEL = 0.85


@dataclass(frozen=True)
class Course:
    """A method with settings.

    Attributes:
        method: of continual_tiny_methods.LABELS.
        settings: as in its GRIDS.
        stop: pass after which it ends; 0 = the last.
    """

    method: str
    settings: Mapping[str, float]
    stop: int = 0

    @property
    def name(self) -> str:
        """What tells it from other courses."""
        told = json.dumps(dict(self.settings), sort_keys=True)
        return f"{self.method} {told} {self.stop}"

    @property
    def last(self) -> int:
        """The pass after which it ends."""
        return self.stop or int(self.settings.get("passes", 1))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Course:
        """Read back what `to_json` returned."""
        return cls(value["method"], value["settings"], value["stop"])

    def to_json(self) -> Values:
        """Return JSON values."""
        return {"method": self.method, "settings": dict(self.settings), "stop": self.stop}


class _Stopwatch:
    """Processor seconds of learning, without the measurements in between."""

    def __init__(self) -> None:
        self.seconds, self._started = 0.0, time.process_time()

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.seconds += time.process_time() - self._started
        try:
            yield
        finally:
            self._started = time.process_time()


def one_batch(
    course: Course, folder: Path, exam: Exam, sizes: Sizes, seed: int, *, on_the_way: bool = False
) -> Values:
    """Teach all facts at once.

    Args:
        course: how.
        folder: the model's.
        exam: facts and questions.
        sizes: how many facts.
        seed: of wordings and order.
        on_the_way: measure some passes before the last too.

    Returns:
        The course and its points, one for each measured pass.
    """
    points: list[Values] = []
    with learner(course.method, folder, course.settings, seed) as taught:
        watch = _Stopwatch()

        def passed(number: int) -> bool:
            if number == course.last or (on_the_way and number in checkpoints(course.last)):
                with watch.paused():
                    found = point(taught, exam, sizes.batch)
                points.append({"pass": number, "seconds": round(watch.seconds, 2), **found})
            return number >= course.last

        taught.learn(exam.batch(0, sizes.batch), passed)
    return {"course": course.to_json(), "points": points}


def sequence(course: Course, folder: Path, exam: Exam, sizes: Sizes, seed: int, num_batches: int) -> Values:
    """Teach one batch after the other, none of them again.

    Args:
        course: how each is taught.
        folder: the model's.
        exam: facts and questions.
        sizes: facts of a batch.
        seed: of wordings and order.
        num_batches: how many.

    Returns:
        The course and its points: after half of the batches and after all.
    """
    points: list[Values] = []
    with learner(course.method, folder, course.settings, seed) as taught:
        watch = _Stopwatch()
        for number in range(1, num_batches + 1):
            taught.learn(exam.batch((number - 1) * sizes.part, sizes.part), lambda done: done >= course.last)
            if number in (sizes.batches // 2, num_batches):
                with watch.paused():
                    found = point(taught, exam, number * sizes.part, first=sizes.part)
                points.append({"batch": number, "seconds": round(watch.seconds, 2), **found})
    return {"course": course.to_json(), "points": points}


def point(taught: Learner, exam: Exam, num_facts: int, first: int | None = None) -> Values:
    """Measure a learner.

    Args:
        taught: who is asked.
        exam: what.
        num_facts: new facts that were taught so far.
        first: facts of the first batch, in a sequence.

    Returns:
        Shares, and the items that they rest on.
    """
    found = asked(taught.model, taught.tokenizer, exam, num_facts)
    items = {
        "new": found["new"],
        "old": found["old"],
        "forgotten": forgotten(exam.before["old"], found["old"]),
        "core_forgotten": forgotten(exam.before["core"], found["core"]),
    }
    if first is not None:
        names = {f"{fact.relation}|{fact.subject}" for fact in exam.facts[:first]}
        items["first"] = [(name, right) for name, right in found["new"] if name in names]
    return {**{name: round(share(part), 4) for name, part in items.items()}, "items": items}


def best(runs: Sequence[Values]) -> tuple[Values, Values]:
    """Choose among runs of a method.

    Args:
        runs: what one_batch or sequence returned.

    Returns:
        The run and its point.
    """
    found = [(run, one) for run in runs for one in run["points"]]
    enough = [pair for pair in found if pair[1]["new"] >= LEVEL]
    if enough:
        return min(enough, key=lambda pair: (pair[1]["forgotten"], -pair[1]["new"]))
    return max(found, key=lambda pair: (pair[1]["new"], -pair[1]["forgotten"]))


def sequence_courses(course: Course) -> list[Course]:
    """What is tried for a sequence, once a method's settings for one batch are known.

    Dense weights move once for a batch of rows. The sequence's batches of facts are smaller, so that as many
    passes are fewer steps: twice as many are tried too.
    """
    if course.method == "memory":
        return [course]
    settings = {**course.settings, "passes": course.last}
    if course.method == "tfidf":
        return [Course(course.method, {**settings, "guarded": guarded}) for guarded in (0, 1)]
    often = (1,) if course.method == "all" else (1, 2)
    return [Course(course.method, {**settings, "passes": times * course.last}) for times in often]
