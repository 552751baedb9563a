"""Training a patch: breadth-first mini-batches over all facts, touching nothing but the delta's rows.

The trainable thing is a compact [selected, dim] delta. Autograd goes down to the memory layer's output and no
further: the gradient of the rows that a batch read is summed from there, and they are updated in place. A
row's optimizer state moves only when the row is read (Adam moves rows that were not touched, which would blur
facts that are done). A vector is moved some forty times in all, and its gradient turns quickly: the moments
look back over few steps. A fact whose every answer token is right with margin leaves the batches; training
ends when all have left or the budget is spent.

Source: breadth-first mini-batches with end token, LocFT-BF 2025 (arXiv 2509.22072); Adam, Kingma & Ba 2015.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from memedit_kernels.slot_bag import SlotOverlay, slot_bag
from memedit_kernels.slot_gradient import row_gradient, slot_gradient
from memedit_kernels.slot_rows import slot_rows
from memedit_kernels.slot_update import RowAdam, slot_update
from torch import Tensor
from torch.nn import functional

from memedit.editing.batches import shuffled_batches
from memedit.editing.course import Course
from memedit.editing.delta import Delta
from memedit.editing.freed_memory import release_freed_memory
from memedit.editing.frozen_blocks import FrozenBlocks, round_up
from memedit.editing.lessons import Lesson
from memedit.editing.output_path import OutputPath
from memedit.progress import NULL_PROGRESS, Progress

_SMALL_BATCH = 8
_STEPS_PER_PASS = 20


@dataclass(frozen=True)
class TrainingSettings:
    """How a patch is trained.

    Attributes:
        max_epochs: passes over the facts that have not been learned.
        learning_rate: of Adam for what all rows of a subject share, in units of the residual stream's root
            mean square where the facts are written, so that one number fits models of any scale.
        row_rate: of what a row of a subject with several facts has for itself, as a share of learning_rate.
        batch_rows: rows per step, at most; fewer where that would leave few steps a pass.
        margin: a fact leaves when every answer token of every row has at least this probability.
        min_epochs: passes that read all rows; none leaves before.
        beta1: decay of Adam's first moment.
        beta2: decay of Adam's second moment.
    """

    max_epochs: int = 10
    learning_rate: float = 1.5
    row_rate: float = 0.1
    batch_rows: int = 32
    margin: float = 0.6
    min_epochs: int = 2
    beta1: float = 0.5
    beta2: float = 0.9


@dataclass(frozen=True)
class TrainedDelta:
    """What training produced.

    Attributes:
        delta: what is added to the selected slots.
        learned: bool [facts], the fact reached the margin (teacher-forced, on the rows it was taught with).
        epochs: int64 [facts], passes until it left.
        losses: mean loss of each pass.
        num_reads: how many rows were read, over all passes.
    """

    delta: Delta
    learned: Tensor
    epochs: Tensor
    losses: tuple[float, ...]
    num_reads: int = 0


class SharedVectors:
    """A delta in which all rows of a subject share a vector.

    What is learned at the slots of one wording then holds for those that another wording hits, and a subject
    costs one vector, however many slots it has. Only where several facts have to be told apart does a row get
    a part of its own as well.

    Args:
        slots: int64 [rows], ascending: the slots that are trained.
        owners: int64 [rows], the subject of each.
        apart: bool [rows], the rows that have a part of their own.
        dim: width of a row.
        settings: learning rates and decays.
        unit: of the learning rate: root mean square of the residual stream that the rows are added to, by
            the gain of the output path that leads there.
    """

    def __init__(
        self,
        slots: Tensor,
        owners: Tensor,
        apart: Tensor,
        dim: int,
        settings: TrainingSettings,
        unit: float,
    ) -> None:
        num_owners, num_own = int(owners.max()) + 1 if len(owners) else 0, int(apart.sum())
        self.slots, self.owners, self.settings, self.unit = slots, owners, settings, unit
        self.vectors = torch.zeros(num_owners, dim, device=slots.device)
        self.own = torch.zeros(num_own, dim, device=slots.device)
        self.own_place = torch.full_like(owners, -1).masked_scatter(apart, torch.arange(num_own))
        rule = self._rule(settings.learning_rate)
        self.state = rule.new_state(num_owners, dim, slots.device)
        self.own_state = rule.new_state(num_own, dim, slots.device)

    def touched(self, slots: Tensor, weights: Tensor) -> Tensor:
        """Rows that look-ups [tokens, j] read with a weight above 0, int64 ascending, each once."""
        rows = slot_rows(slots, self.slots)
        touched: Tensor = rows[(rows >= 0) & (weights != 0)].unique()
        return touched

    def read(self, rows: Tensor) -> SlotOverlay:
        """Slots and values of some rows."""
        values, place = self.vectors[self.owners[rows]], self.own_place[rows]
        values[place >= 0] += self.own[place[place >= 0]]
        return SlotOverlay(self.slots[rows], values)

    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Move what the rows that were read hold by their gradient, fp32 [rows, dim]."""
        owners, position = self.owners[rows].unique(return_inverse=True)
        ones = torch.ones(len(rows), 1, device=rows.device)
        summed = row_gradient(gradient, position[:, None], ones, len(owners))
        slot_update(self.vectors, owners, summed, self._rule(rate), self.state, state_rows=owners)
        place = self.own_place[rows]
        own, slower = place[place >= 0], self._rule(rate * self.settings.row_rate)
        if len(own):
            slot_update(self.own, own, gradient[place >= 0], slower, self.own_state, state_rows=own)

    def delta(self) -> Delta:
        """What all slots hold now."""
        apart = self.own_place >= 0
        values = torch.cat([self.vectors, self.vectors[self.owners[apart]] + self.own[self.own_place[apart]]])
        own = len(self.vectors) + torch.arange(int(apart.sum()), device=self.slots.device)
        return Delta(values, self.owners.masked_scatter(apart, own))

    def _rule(self, rate: float) -> RowAdam:
        return RowAdam(rate, self.settings.beta1, self.settings.beta2)


def train_delta(
    lessons: Sequence[Lesson],
    output: OutputPath,
    blocks: FrozenBlocks,
    rows: SharedVectors,
    *,
    num_facts: int,
    settings: TrainingSettings,
    seed: int,
    progress: Progress = NULL_PROGRESS,
    after_epoch: Callable[[int, Delta], None] | None = None,
) -> TrainedDelta:
    """Train the delta.

    Args:
        lessons: what is taught; every fact with at least one lesson can be learned.
        output: the memory layer's output path.
        blocks: the frozen blocks above the memory layer.
        rows: the rows that are trained, changed in place.
        num_facts: facts in the batch, those without a lesson included.
        settings: learning rate, budget, margin.
        seed: of the order of rows.
        progress: told of lessons done.
        after_epoch: told of the passes that are done and the delta so far.

    Returns:
        The delta and which facts were learned.
    """
    generator = torch.Generator().manual_seed(seed)
    course = Course([lesson.fact for lesson in lessons], num_facts, settings)
    losses: list[float] = []
    size, num_taught = _batch_size(len(lessons), settings), len({lesson.fact for lesson in lessons})
    with progress.task("Training", settings.max_epochs * len(lessons)) as task:
        for epoch in range(settings.max_epochs):
            due = course.due()
            if not due:
                task.advance((settings.max_epochs - epoch) * len(lessons))
                break
            rate = settings.learning_rate * rows.unit * (1 - epoch / settings.max_epochs)
            lengths = [len(lessons[at].hidden) for at in due]
            total = 0.0
            for batch in shuffled_batches(lengths, size, generator):
                chosen = [due[at] for at in batch]
                tokens = _step([lessons[at] for at in chosen], output, blocks, rows, rate)
                course.seen(chosen, [float(loss.max()) for loss in tokens])
                total += sum(float(loss.mean()) for loss in tokens)
                task.advance(len(batch))
            task.advance(len(lessons) - len(due))
            release_freed_memory()
            losses.append(total / len(due))
            course.end_pass()
            if after_epoch is not None:
                after_epoch(epoch + 1, rows.delta())
            task.describe(
                f"Training: {int(course.learned.sum())} of {num_taught} facts learned, loss {losses[-1]:.2f}"
            )
    return TrainedDelta(rows.delta(), course.learned, course.epochs, tuple(losses), course.reads)


def _batch_size(num_lessons: int, settings: TrainingSettings) -> int:
    """Rows per step: few facts get small batches, for they need as many steps as many facts do."""
    return min(settings.batch_rows, max(_SMALL_BATCH, num_lessons // _STEPS_PER_PASS))


def _step(
    batch: Sequence[Lesson], output: OutputPath, blocks: FrozenBlocks, rows: SharedVectors, rate: float
) -> list[Tensor]:
    """One forward, backward and update; returns each lesson's loss per answer token, before the update."""
    longest = round_up(max(len(lesson.hidden) for lesson in batch), 4)
    hidden, slots, weights = (
        torch.stack([_padded(getattr(lesson, name), longest) for lesson in batch])
        for name in ("hidden", "slots", "weights")
    )
    slots, weights = slots.flatten(0, 1), weights.flatten(0, 1)
    touched = rows.touched(slots, weights)
    overlay = rows.read(touched)
    written = slot_bag(slots, weights, overlay=overlay).view(*hidden.shape[:2], -1)
    grad_written, counts = torch.empty_like(written), [len(lesson.answer) for lesson in batch]
    losses: list[Tensor] = []
    # In fp32 two parts, one after the other, hold what a whole batch holds in bf16.
    for part in torch.arange(len(batch)).chunk(hidden.element_size() // 2):
        leaf = written[part].requires_grad_()
        added = output(leaf, _gates([batch[at] for at in part], longest), hidden.dtype)
        loss = _losses([batch[at] for at in part], blocks, hidden[part] + added)
        (grad_written[part],) = torch.autograd.grad(loss.sum() / sum(counts), leaf)
        losses.append(loss.detach())
    rows.step(touched, slot_gradient(grad_written.flatten(0, 1), slots, weights, overlay.slots), rate)
    return list(torch.cat(losses).split(counts))


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


def _gates(batch: Sequence[Lesson], longest: int) -> Tensor | None:
    given = [_padded(lesson.gates, longest) for lesson in batch if lesson.gates is not None]
    return torch.stack(given) if given else None


def _padded(part: Tensor, length: int) -> Tensor:
    """Zeros up to a length; a look-up of slot 0 with weight 0 reads nothing."""
    if len(part) == length:
        return part
    return torch.cat([part, part.new_zeros(length - len(part), *part.shape[1:])])
