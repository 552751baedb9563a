"""A plan for an edit: which slots will be written for which subject; and carrying it out.

Planning and training are two steps because the model's overlay stands between them: the caller adds the
planned slots (holding zeros) to what earlier edits wrote, and training needs that sum, in which the ownership
gate decides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from memedit.editing.delta import Delta
from memedit.editing.freed_memory import release_freed_memory
from memedit.editing.frozen_blocks import FrozenBlocks
from memedit.editing.lessons import make_lessons
from memedit.editing.row_states import RowState, memory_block, route_subjects, row_states, subject_routing
from memedit.editing.rows import TeachingRows, teaching_rows
from memedit.editing.selection import Selection, SelectionSettings, SlotSelector
from memedit.editing.slot_ranking import select_for_edit
from memedit.editing.training import SharedVectors, TrainedDelta, TrainingSettings, train_delta
from memedit.facts import Fact
from memedit.modeling import MemoryLlamaForCausalLM, Overlay
from memedit.modeling.background import BackgroundStatistics
from memedit.progress import NULL_PROGRESS, Progress


@dataclass(frozen=True)
class EditingSettings:
    """Everything that decides how facts are written.

    Attributes:
        selection: which slots.
        training: how the delta is trained.
        num_contexts: wordings with a random sentence in front, per fact.
        num_questions: questions, per fact.
        num_decoys: look-alike names per subject.
    """

    selection: SelectionSettings = field(default_factory=SelectionSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    num_contexts: int = 2
    num_questions: int = 3
    num_decoys: int = 30


@dataclass(frozen=True)
class EditPlan:
    """What will be written.

    Attributes:
        facts: what is taught.
        rows: the facts as tokens.
        states: the rows at the memory layer.
        selection: slots, owners, thresholds.
    """

    facts: tuple[Fact, ...]
    rows: TeachingRows
    states: tuple[RowState, ...]
    selection: Selection


@dataclass(frozen=True)
class EditResult:
    """What training made of a plan.

    Attributes:
        trained: the delta and which facts reached the margin.
        num_rows: int64 [facts], wordings that were taught, of those that the fact has.
        num_wordings: int64 [facts].
    """

    trained: TrainedDelta
    num_rows: Tensor
    num_wordings: Tensor


def plan_edit(
    model: MemoryLlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    background: BackgroundStatistics,
    facts: Sequence[Fact],
    *,
    seed: int,
    settings: EditingSettings,
    progress: Progress = NULL_PROGRESS,
) -> EditPlan:
    """Choose slots and gates for some facts.

    Args:
        model: the model with the overlay of the earlier edits.
        tokenizer: its tokenizer.
        background: slot document frequencies.
        facts: what is taught.
        seed: of made wordings and decoys.
        settings: how.
        progress: told of what takes time.
    """
    _, memory = memory_block(model)
    rows = teaching_rows(
        facts,
        tokenizer,
        model.config,
        seed=seed,
        num_contexts=settings.num_contexts,
        num_questions=settings.num_questions,
        num_decoys=settings.num_decoys,
    )
    states = row_states(model, rows.rows, progress)
    taken, chosen = _taken(model.overlay(), rows.subjects), settings.selection
    if chosen.ranking != "contrast":
        selection = select_for_edit(
            states,
            background,
            chosen.ranking,
            slots_per_subject=chosen.slots_per_subject,
            num_subjects=len(rows.subjects),
            taken=taken,
        )
        return EditPlan(tuple(facts), rows, tuple(states), selection)
    selector = SlotSelector(
        subject_routing(rows.rows, states),
        route_subjects(model, rows.decoys, progress),
        background,
        rows.subject_tails(),
        given=torch.tensor([row.given for row in rows.rows]),
        heads=memory.heads,
        settings=chosen,
    )
    selection = selector.select(taken, _written_before(model.overlay(), rows.subjects))
    return EditPlan(tuple(facts), rows, tuple(states), selection)


def _taken(overlay: Overlay | None, subjects: Sequence[str]) -> Tensor:
    """Slots that belong to other subjects than these."""
    if overlay is None:
        return torch.empty(0, dtype=torch.int64)
    same = torch.tensor([name in set(subjects) for name in overlay.owner_names] + [False])
    return overlay.slots[~same[overlay.owners]]


def _written_before(overlay: Overlay | None, subjects: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Slots that belong to these subjects already, and the index of the subject of each."""
    if overlay is None:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    place = {subject: index for index, subject in enumerate(subjects)}
    owners = torch.tensor([*(place.get(name, -1) for name in overlay.owner_names), -1])[overlay.owners]
    return overlay.slots[owners >= 0], owners[owners >= 0]


def train_plan(
    model: MemoryLlamaForCausalLM,
    plan: EditPlan,
    overlay: Overlay,
    *,
    seed: int,
    settings: EditingSettings,
    progress: Progress = NULL_PROGRESS,
    after_epoch: Callable[[int, Delta], None] | None = None,
) -> EditResult:
    """Train the rows of a plan.

    Args:
        model: the model.
        plan: what plan_edit chose.
        overlay: everything written after the edit, the plan's rows holding what earlier edits left there, or
            zeros.
        seed: of the order of rows.
        settings: how.
        progress: told of what takes time.
        after_epoch: told of the passes that are done and the delta so far.

    Returns:
        The delta at the slots of the plan, and what became of each fact.
    """
    layer, memory = memory_block(model)
    release_freed_memory()
    blocks = FrozenBlocks(model, layer + 1)
    lessons = make_lessons(
        plan.rows.rows, plan.states, blocks, overlay, plan.selection.slots, memory.heads, progress
    )
    trained = train_delta(
        lessons,
        blocks,
        SharedVectors(
            plan.selection.slots,
            _sharing(plan.selection.owners),
            _with_several_facts(plan),
            model.config.value_dim,
            settings.training,
            _residual_rms(plan),
        ),
        num_facts=len(plan.facts),
        settings=settings.training,
        seed=seed,
        progress=progress,
        after_epoch=after_epoch,
    )
    return EditResult(
        trained,
        torch.bincount(
            torch.tensor([lesson.fact for lesson in lessons], dtype=torch.int64), minlength=len(plan.facts)
        ),
        torch.bincount(torch.tensor([row.fact for row in plan.rows.rows]), minlength=len(plan.facts)),
    )


def _residual_rms(plan: EditPlan) -> float:
    """Root mean square of the residual stream at the subjects' last tokens, the median over the rows."""
    pairs = zip(plan.rows.rows, plan.states, strict=True)
    last = torch.stack([state.hidden[row.subject_last] for row, state in pairs]).float()
    return float(last.square().mean(-1).sqrt().median())


def _sharing(owners: Tensor) -> Tensor:
    """Which rows share a part of their values: those of one owner; an ungated row shares with none."""
    alone = owners < 0
    first = int(owners.max()) + 1 if len(owners) else 0
    return owners.masked_scatter(alone, first + torch.arange(int(alone.sum())))


def _with_several_facts(plan: EditPlan) -> Tensor:
    """Rows whose subject carries more than one fact of the edit, bool [selected]."""
    pairs = {(row.owner, row.fact) for row in plan.rows.rows}
    num_facts = torch.bincount(
        torch.tensor([owner for owner, _ in pairs], dtype=torch.int64), minlength=len(plan.rows.subjects)
    )
    owners = plan.selection.owners
    return (owners >= 0) & (num_facts[owners.clamp(min=0)] > 1)
