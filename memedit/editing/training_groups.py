"""Training in groups: as many facts at once as memory has room for.

What: `training_groups` parts rows and slots of an edit by subject, `joined` puts together what was trained of
each, `numbered` tells which group is at work.
Why: what is kept of a fact's rows while it is trained takes over 1 MB: 10 GB and more for ten thousand facts.
How: a subject's vectors are its own, so nothing is lost by training other subjects before or after it. Slots
that nobody owns are moved by all facts: then there is one group.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.editing.delta import Delta
from memedit.editing.training import TrainedDelta
from memedit.progress import Progress, Task


@dataclass(frozen=True)
class TrainingGroup:
    """Facts that are trained together.

    Attributes:
        rows: which of the edit's rows are read.
        slots: int64, ascending: which of the edit's slots are trained.
    """

    rows: tuple[int, ...]
    slots: Tensor


def training_groups(
    facts: Sequence[int], owners: Sequence[int], slot_owners: Tensor, size: int
) -> list[TrainingGroup]:
    """Part rows and slots by subject.

    Args:
        facts: the fact of each row.
        owners: the subject of each row.
        slot_owners: int64 [selected], the subject of each slot, -1 = nobody's.
        size: facts of a group, at most; a subject with more has a group for itself.

    Returns:
        The groups, at least one; subjects stay in their order.
    """
    facts_of: dict[int, set[int]] = {}
    for fact, owner in zip(facts, owners, strict=True):
        facts_of.setdefault(owner, set()).add(fact)
    if bool((slot_owners < 0).any()):
        return [TrainingGroup(tuple(range(len(facts))), torch.arange(len(slot_owners)))]
    subjects: list[set[int]] = [set()]
    held = 0
    for owner in sorted(facts_of):
        if subjects[-1] and held + len(facts_of[owner]) > size:
            subjects.append(set())
            held = 0
        subjects[-1].add(owner)
        held += len(facts_of[owner])
    return [
        TrainingGroup(
            tuple(index for index, owner in enumerate(owners) if owner in chosen),
            torch.isin(slot_owners, torch.tensor(sorted(chosen), dtype=torch.int64)).nonzero().flatten(),
        )
        for chosen in subjects
    ]


def joined(groups: Sequence[TrainingGroup], trained: Sequence[TrainedDelta], num_slots: int) -> TrainedDelta:
    """Put together what was trained of each group.

    Args:
        groups: all groups of an edit.
        trained: what became of each.
        num_slots: slots of the edit.

    Returns:
        One delta; the loss of a pass is the mean over the groups that came to it, by their rows.
    """
    if len(groups) == 1:
        return trained[0]
    rows = torch.zeros(num_slots, dtype=torch.int64)
    start = 0
    for group, one in zip(groups, trained, strict=True):
        rows[group.slots] = one.delta.rows + start
        start += len(one.delta.values)
    return TrainedDelta(
        Delta(torch.cat([one.delta.values for one in trained]), rows),
        torch.stack([one.learned for one in trained]).any(0),
        torch.stack([one.epochs for one in trained]).amax(0),
        tuple(_mean_losses(groups, trained)),
        sum(one.num_reads for one in trained),
    )


def _mean_losses(groups: Sequence[TrainingGroup], trained: Sequence[TrainedDelta]) -> Iterator[float]:
    for place in range(max(len(one.losses) for one in trained)):
        told = [
            (one.losses[place], len(group.rows))
            for group, one in zip(groups, trained, strict=True)
            if place < len(one.losses)
        ]
        yield sum(loss * rows for loss, rows in told) / max(1, sum(rows for _, rows in told))


def numbered(progress: Progress, count: int) -> list[Progress]:
    """One progress for each group, which says which of how many it is; a single group says nothing."""
    if count == 1:
        return [progress]
    return [_Numbered(progress, f" ({number} of {count})") for number in range(1, count + 1)]


class _Numbered:
    def __init__(self, progress: Progress, suffix: str) -> None:
        self.progress, self.suffix = progress, suffix

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Task]:
        with self.progress.task(description, total) as task:
            told = _NumberedTask(task, self.suffix)
            told.describe(description)
            yield told


class _NumberedTask:
    def __init__(self, task: Task, suffix: str) -> None:
        self.inner, self.suffix = task, suffix

    def advance(self, n: int = 1) -> None:
        self.inner.advance(n)

    def describe(self, description: str) -> None:
        self.inner.describe(description + self.suffix)
