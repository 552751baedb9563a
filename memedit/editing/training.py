"""Training a patch: breadth-first mini-batches over all facts, touching nothing but the delta's rows.

The trainable thing is a compact [selected, dim] delta. A row's optimizer state moves only when the row is
read (Adam moves rows that were not touched, which would blur facts that are done). A fact whose every answer
token is right with margin leaves the batches; training ends when all have left or the budget is spent.

Source: breadth-first mini-batches with end token, LocFT-BF 2025 (arXiv 2509.22072); Adam, Kingma & Ba 2015.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from memedit_kernels.slot_bag import slot_bag
from torch import Tensor
from torch.nn import functional

from memedit.editing.freed_memory import release_freed_memory
from memedit.editing.frozen_blocks import FrozenBlocks, round_up
from memedit.editing.lessons import Lesson
from memedit.progress import NULL_PROGRESS, Progress

_SMALL_BATCH = 8
_STEPS_PER_PASS = 20


@dataclass(frozen=True)
class TrainingSettings:
    """How a patch is trained.

    Attributes:
        max_epochs: passes over the facts that have not been learned.
        learning_rate: of Adam for what all rows of a subject share, in units of the residual stream.
        row_rate: of what a row has for itself, as a share of learning_rate.
        batch_rows: rows per step, at most; fewer where that would leave few steps a pass.
        margin: a fact leaves when every answer token of every row has at least this probability.
        min_epochs: passes before a fact may leave.
        beta1: decay of Adam's first moment.
        beta2: decay of Adam's second moment.
    """

    max_epochs: int = 14
    learning_rate: float = 2.0
    row_rate: float = 0.1
    batch_rows: int = 32
    margin: float = 0.8
    min_epochs: int = 3
    beta1: float = 0.9
    beta2: float = 0.99


@dataclass(frozen=True)
class TrainedDelta:
    """What training produced.

    Attributes:
        delta: fp32 [selected, dim].
        learned: bool [facts], the fact reached the margin (teacher-forced, on the rows it was taught with).
        epochs: int64 [facts], passes until it left.
        losses: mean loss of each pass.
    """

    delta: Tensor
    learned: Tensor
    epochs: Tensor
    losses: tuple[float, ...]


class SharedRows:
    """A delta whose rows are the sum of a part that all rows of a subject share and a part of their own.

    What is learned at the slots of one wording then holds for those that another wording hits.
    """

    def __init__(self, owners: Tensor, num_owners: int, dim: int, settings: TrainingSettings) -> None:
        self.owners, self.settings = owners, settings
        self.shared, self.own = torch.zeros(num_owners, dim), torch.zeros(len(owners), dim)
        self.adam_shared, self.adam_own = RowAdam(self.shared, settings), RowAdam(self.own, settings)

    def read(self, rows: Tensor) -> Tensor:
        """Values of some rows, fp32 [rows, dim], as a leaf that collects a gradient."""
        return (self.shared[self.owners[rows]] + self.own[rows]).requires_grad_(True)  # noqa: FBT003

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Move the rows that were read by their gradient [rows, dim]."""
        owners, position = self.owners[rows].unique(return_inverse=True)
        summed = torch.zeros(len(owners), gradient.shape[1]).index_add_(0, position, gradient)
        self.adam_shared.step(owners, summed, rate)
        self.adam_own.step(rows, gradient, rate * self.settings.row_rate)

    def delta(self) -> Tensor:
        """All rows, fp32 [rows, dim]."""
        return self.shared[self.owners] + self.own


class RowAdam:
    """Adam whose moments and step counts advance only for the rows that a step touches."""

    def __init__(self, values: Tensor, settings: TrainingSettings) -> None:
        self.values, self.settings = values, settings
        self.first, self.second = torch.zeros_like(values), torch.zeros_like(values)
        self.steps = torch.zeros(len(values), 1)

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Move some rows.

        Args:
            rows: int64 [touched], each once.
            gradient: fp32 [touched, dim].
            rate: learning rate of this step.
        """
        beta1, beta2 = self.settings.beta1, self.settings.beta2
        self.steps[rows] += 1
        first = self.first[rows].mul_(beta1).add_(gradient, alpha=1 - beta1)
        second = self.second[rows].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        self.first[rows], self.second[rows] = first, second
        steps = self.steps[rows]
        scale = (1 - beta2**steps).sqrt() / (1 - beta1**steps)
        self.values[rows] -= rate * scale * first / (second.sqrt() + 1e-8)


def train_delta(
    lessons: Sequence[Lesson],
    blocks: FrozenBlocks,
    *,
    owners: Tensor,
    num_facts: int,
    dim: int,
    settings: TrainingSettings,
    seed: int,
    progress: Progress = NULL_PROGRESS,
) -> TrainedDelta:
    """Train the delta.

    Args:
        lessons: what is taught; every fact with at least one lesson can be learned.
        blocks: the frozen blocks above the memory layer.
        owners: int64 [rows], the subject of each row of the delta.
        num_facts: facts in the batch, those without a lesson included.
        dim: width of the delta's rows.
        settings: learning rate, budget, margin.
        seed: of the order of rows.
        progress: told of lessons done.

    Returns:
        The delta and which facts were learned.
    """
    rows = SharedRows(owners, int(owners.max()) + 1 if len(owners) else 0, dim, settings)
    generator = torch.Generator().manual_seed(seed)
    taught = torch.zeros(num_facts, dtype=torch.bool)
    taught[[lesson.fact for lesson in lessons]] = True
    learned, epochs = torch.zeros(num_facts, dtype=torch.bool), torch.zeros(num_facts, dtype=torch.int64)
    losses: list[float] = []
    size = _batch_size(len(lessons), settings)
    with progress.task("Training", settings.max_epochs * len(lessons)) as task:
        for epoch in range(settings.max_epochs):
            active = [lesson for lesson in lessons if not learned[lesson.fact]]
            if not active:
                break
            rate = settings.learning_rate * (1 - epoch / settings.max_epochs)
            worst, total = torch.zeros(num_facts), 0.0
            for batch in _batches(active, size, generator):
                tokens = _step(batch, blocks, rows, rate)
                for lesson, loss in zip(batch, tokens, strict=True):
                    worst[lesson.fact] = max(float(worst[lesson.fact]), float(loss.max()))
                    total += float(loss.mean())
                task.advance(len(batch))
            release_freed_memory()
            losses.append(total / len(active))
            pending = taught & ~learned
            epochs[pending] = epoch + 1
            if epoch + 1 >= settings.min_epochs:
                learned |= pending & (worst <= -math.log(settings.margin))
            num_left = sum(bool(learned[lesson.fact]) for lesson in active)
            task.advance(num_left * (settings.max_epochs - epoch - 1))
            task.describe(
                f"Training: {int(learned.sum())} of {num_facts} facts learned, loss {losses[-1]:.2f}"
            )
    return TrainedDelta(rows.delta(), learned, epochs, tuple(losses))


def _batch_size(num_lessons: int, settings: TrainingSettings) -> int:
    """Rows per step: few facts get small batches, for they need as many steps as many facts do."""
    return min(settings.batch_rows, max(_SMALL_BATCH, num_lessons // _STEPS_PER_PASS))


def _batches(lessons: Sequence[Lesson], size: int, generator: torch.Generator) -> list[list[Lesson]]:
    """Random batches of rows of similar length: shuffled, sorted within eight batches, batches shuffled."""
    order = torch.randperm(len(lessons), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), 8 * size):
        chunk = sorted(order[start : start + 8 * size], key=lambda i: len(lessons[i].hidden))
        batches += [chunk[at : at + size] for at in range(0, len(chunk), size)]
    shuffled = torch.randperm(len(batches), generator=generator).tolist()
    return [[lessons[index] for index in batches[number]] for number in shuffled]


def _step(batch: Sequence[Lesson], blocks: FrozenBlocks, rows: SharedRows, rate: float) -> list[Tensor]:
    """One forward, backward and update; returns each lesson's loss per answer token, before the update."""
    longest = round_up(max(len(lesson.hidden) for lesson in batch), 4)
    hidden = torch.stack([_padded(lesson.hidden, longest, 0) for lesson in batch])
    looked_up = torch.stack([_padded(lesson.rows, longest, -1) for lesson in batch]).flatten(0, 1)
    weights = torch.stack([_padded(lesson.weights, longest, 0) for lesson in batch]).flatten(0, 1)
    touched, local = looked_up.unique(return_inverse=True)
    if touched[0] == -1:
        touched, local = touched[1:], local - 1
    values = rows.read(touched)
    written = slot_bag(values, local, weights).view(len(batch), longest, -1)
    out = blocks.forward(hidden + written.to(hidden.dtype), [lesson.prefix for lesson in batch])
    counts = [len(lesson.answer) for lesson in batch]
    lines = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor(counts))
    places = torch.cat([lesson.answer_start + torch.arange(len(lesson.answer)) for lesson in batch])
    answers = torch.cat([lesson.answer for lesson in batch])
    read = out[lines, places]
    read = torch.cat([read, read.new_zeros(round_up(len(read), 32) - len(read), read.shape[-1])])
    loss = functional.cross_entropy(blocks.logits(read)[: len(answers)], answers, reduction="none")
    (gradient,) = torch.autograd.grad(loss.mean(), values)
    rows.step(touched, gradient, rate)
    return list(loss.detach().split(counts))


def _padded(part: Tensor, length: int, filler: int) -> Tensor:
    if len(part) == length:
        return part
    return torch.cat([part, part.new_full((length - len(part), *part.shape[1:]), filler)])
