"""Training a patch: breadth-first mini-batches over all facts, touching nothing but the delta's rows.

The trainable thing is a compact [selected, dim] delta. Autograd goes down to the memory layer's output and no
further: the gradient of the rows that a batch read is summed from there, and they are updated in place. A
row's optimizer state moves only when the row is read (Adam moves rows that were not touched, which would blur
facts that are done). A fact whose every answer token is right with margin leaves the batches; training ends
when all have left or the budget is spent.

Source: breadth-first mini-batches with end token, LocFT-BF 2025 (arXiv 2509.22072); Adam, Kingma & Ba 2015.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from memedit_kernels.slot_bag import SlotOverlay, slot_bag
from memedit_kernels.slot_gradient import row_gradient, slot_gradient
from memedit_kernels.slot_rows import slot_rows
from memedit_kernels.slot_update import RowAdam, slot_update
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

    Args:
        slots: int64 [rows], ascending: the slots that are trained.
        owners: int64 [rows], the subject of each.
        dim: width of a row.
        settings: learning rates and decays.
    """

    def __init__(self, slots: Tensor, owners: Tensor, dim: int, settings: TrainingSettings) -> None:
        num_owners = int(owners.max()) + 1 if len(owners) else 0
        self.slots, self.owners, self.settings = slots, owners, settings
        self.shared = torch.zeros(num_owners, dim, device=slots.device)
        self.own = torch.zeros(len(owners), dim, device=slots.device)
        rule = self._rule(settings.learning_rate)
        self.state_shared = rule.new_state(num_owners, dim, slots.device)
        self.state_own = rule.new_state(len(owners), dim, slots.device)

    def touched(self, slots: Tensor, weights: Tensor) -> Tensor:
        """Rows that look-ups [tokens, j] read with a weight above 0, int64 ascending, each once."""
        rows = slot_rows(slots, self.slots)
        touched: Tensor = rows[(rows >= 0) & (weights != 0)].unique()
        return touched

    def read(self, rows: Tensor) -> SlotOverlay:
        """Slots and values of some rows."""
        return SlotOverlay(self.slots[rows], self.shared[self.owners[rows]] + self.own[rows])

    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Move the rows that were read by their gradient, fp32 [rows, dim]."""
        owners, position = self.owners[rows].unique(return_inverse=True)
        ones = torch.ones(len(rows), 1, device=rows.device)
        summed = row_gradient(gradient, position[:, None], ones, len(owners))
        rule, slower = self._rule(rate), self._rule(rate * self.settings.row_rate)
        slot_update(self.shared, owners, summed, rule, self.state_shared, state_rows=owners)
        slot_update(self.own, rows, gradient, slower, self.state_own, state_rows=rows)

    def delta(self) -> Tensor:
        """All rows, fp32 [rows, dim]."""
        return self.shared[self.owners] + self.own

    def _rule(self, rate: float) -> RowAdam:
        return RowAdam(rate, self.settings.beta1, self.settings.beta2)


def train_delta(
    lessons: Sequence[Lesson],
    blocks: FrozenBlocks,
    *,
    slots: Tensor,
    owners: Tensor,
    num_facts: int,
    dim: int,
    settings: TrainingSettings,
    seed: int,
    progress: Progress = NULL_PROGRESS,
    after_epoch: Callable[[int, Tensor], None] | None = None,
) -> TrainedDelta:
    """Train the delta.

    Args:
        lessons: what is taught; every fact with at least one lesson can be learned.
        blocks: the frozen blocks above the memory layer.
        slots: int64 [rows], ascending: the slots that are trained, one for each row of the delta.
        owners: int64 [rows], the subject of each row of the delta.
        num_facts: facts in the batch, those without a lesson included.
        dim: width of the delta's rows.
        settings: learning rate, budget, margin.
        seed: of the order of rows.
        progress: told of lessons done.
        after_epoch: told of the passes that are done and the delta so far.

    Returns:
        The delta and which facts were learned.
    """
    rows = SharedRows(slots, owners, dim, settings)
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
            if after_epoch is not None:
                after_epoch(epoch + 1, rows.delta())
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
    hidden, slots, weights = (
        torch.stack([_padded(getattr(lesson, name), longest) for lesson in batch])
        for name in ("hidden", "slots", "weights")
    )
    slots, weights = slots.flatten(0, 1), weights.flatten(0, 1)
    touched = rows.touched(slots, weights)
    overlay = rows.read(touched)
    written = slot_bag(slots, weights, overlay=overlay).requires_grad_()
    loss = _losses(batch, blocks, hidden + written.view(hidden.shape).to(hidden.dtype))
    (grad_written,) = torch.autograd.grad(loss.mean(), written)
    rows.step(touched, slot_gradient(grad_written, slots, weights, overlay.slots), rate)
    return list(loss.detach().split([len(lesson.answer) for lesson in batch]))


def _losses(batch: Sequence[Lesson], blocks: FrozenBlocks, hidden: Tensor) -> Tensor:
    """Cross-entropy of every answer token of a batch, one lesson after the other: fp32 [answer tokens]."""
    out = blocks.forward(hidden, [lesson.prefix for lesson in batch])
    counts = [len(lesson.answer) for lesson in batch]
    lines = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor(counts))
    places = torch.cat([lesson.answer_start + torch.arange(len(lesson.answer)) for lesson in batch])
    answers = torch.cat([lesson.answer for lesson in batch])
    read = out[lines, places]
    read = torch.cat([read, read.new_zeros(round_up(len(read), 32) - len(read), read.shape[-1])])
    return functional.cross_entropy(blocks.logits(read)[: len(answers)], answers, reduction="none")


def _padded(part: Tensor, length: int) -> Tensor:
    """Zeros up to a length; a look-up of slot 0 with weight 0 reads nothing."""
    if len(part) == length:
        return part
    return torch.cat([part, part.new_zeros(length - len(part), *part.shape[1:])])
