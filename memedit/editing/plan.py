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
from memedit.editing.output_path import OutputPath
from memedit.editing.row_states import RowState, memory_block, route_subjects, row_states
from memedit.editing.rows import TeachingRow, TeachingRows, teaching_rows
from memedit.editing.selection import Selection, SelectionSettings, SlotSelector
from memedit.editing.slot_ranking import select_for_edit
from memedit.editing.training import SharedVectors, TrainedDelta, TrainingSettings, train_delta
from memedit.editing.training_groups import TrainingGroup, joined, numbered, training_groups
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
        facts_at_once: facts that are trained together. It bounds memory: what is kept of a fact's rows takes
            over 1 MB. Each subject has vectors of its own, so it learns what it would among others.
    """

    selection: SelectionSettings = field(default_factory=SelectionSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    num_contexts: int = 2
    num_questions: int = 3
    num_decoys: int = 30
    facts_at_once: int = 250


@dataclass(frozen=True)
class EditPlan:
    """What will be written.

    Attributes:
        facts: what is taught.
        rows: the facts as tokens.
        selection: slots, owners, thresholds.
    """

    facts: tuple[Fact, ...]
    rows: TeachingRows
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
    taken, chosen = _taken(model.overlay(), rows.subjects), settings.selection
    if chosen.ranking != "contrast":
        selection = select_for_edit(
            row_states(model, rows.rows, progress),
            background,
            chosen.ranking,
            slots_per_subject=chosen.slots_per_subject,
            num_subjects=len(rows.subjects),
            taken=taken,
        )
        return EditPlan(tuple(facts), rows, selection)
    selector = SlotSelector(
        route_subjects(model, rows.rows, progress, "Reading subjects"),
        route_subjects(model, rows.decoys, progress),
        background,
        rows.subject_tails(),
        given=torch.tensor([row.given for row in rows.rows]),
        heads=memory.heads,
        settings=chosen,
    )
    selection = selector.select(taken, _written_before(model.overlay(), rows.subjects))
    return EditPlan(tuple(facts), rows, selection)


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
        after_epoch: told of the passes that are done and the delta so far. All facts are
            then trained together, whatever settings.facts_at_once is.

    Returns:
        The delta at the slots of the plan, and what became of each fact.
    """
    groups = training_groups(
        [row.fact for row in plan.rows.rows],
        [row.owner for row in plan.rows.rows],
        plan.selection.owners,
        # A pass over everything can only be told where everything is trained together.
        len(plan.facts) if after_epoch is not None else settings.facts_at_once,
    )
    trained = [
        _train_group(model, plan, group, overlay, seed, settings, told, after_epoch)
        for group, told in zip(groups, numbered(progress, len(groups)), strict=True)
    ]
    return EditResult(
        joined(groups, [one for one, _ in trained], len(plan.selection.slots)),
        torch.stack([taught for _, taught in trained]).sum(0),
        torch.bincount(torch.tensor([row.fact for row in plan.rows.rows]), minlength=len(plan.facts)),
    )


def _train_group(
    model: MemoryLlamaForCausalLM,
    plan: EditPlan,
    group: TrainingGroup,
    overlay: Overlay,
    seed: int,
    settings: EditingSettings,
    progress: Progress,
    after_epoch: Callable[[int, Delta], None] | None,
) -> tuple[TrainedDelta, Tensor]:
    """Train the rows of some facts; returns how many of each fact's wordings were taught, too."""
    layer, memory = memory_block(model)
    slots, owners = plan.selection.slots[group.slots], plan.selection.owners[group.slots]
    rows = [plan.rows.rows[index] for index in group.rows]
    states = row_states(model, rows, progress)
    release_freed_memory()
    output, blocks = OutputPath(memory), FrozenBlocks(model, layer + 1)
    lessons = make_lessons(rows, states, blocks, overlay, slots, memory, progress)
    vectors = SharedVectors(
        slots,
        _sharing(owners),
        _with_several_facts(rows, owners),
        model.config.value_dim,
        settings.training,
        _residual_rms(rows, states) / output.gain(_gates(rows, states)),
    )
    del states
    trained = train_delta(
        lessons,
        output,
        blocks,
        vectors,
        num_facts=len(plan.facts),
        settings=settings.training,
        seed=seed,
        progress=progress,
        after_epoch=after_epoch,
    )
    taught = torch.tensor([lesson.fact for lesson in lessons], dtype=torch.int64)
    return trained, torch.bincount(taught, minlength=len(plan.facts))


def _residual_rms(rows: Sequence[TeachingRow], states: Sequence[RowState]) -> float:
    """Root mean square of the residual stream at the subjects' last tokens, the median over the rows."""
    pairs = zip(rows, states, strict=True)
    last = torch.stack([state.hidden[row.subject_last] for row, state in pairs]).float()
    return float(last.square().mean(-1).sqrt().median())


def _gates(rows: Sequence[TeachingRow], states: Sequence[RowState]) -> list[Tensor]:
    """The output gates at the subjects' last tokens; none where the output is not gated."""
    pairs = zip(rows, states, strict=True)
    return [state.gates[row.subject_last] for row, state in pairs if state.gates is not None]


def _sharing(owners: Tensor) -> Tensor:
    """Which rows share a part of their values: those of one owner; an ungated row shares with none."""
    alone = owners < 0
    named, shared = owners[~alone].unique(return_inverse=True)
    sharing = torch.empty_like(owners).masked_scatter(~alone, shared)
    return sharing.masked_scatter(alone, len(named) + torch.arange(int(alone.sum())))


def _with_several_facts(rows: Sequence[TeachingRow], owners: Tensor) -> Tensor:
    """Slots whose subject carries more than one fact, bool [owners]; all rows of their subjects are given."""
    pairs = {(row.owner, row.fact) for row in rows}
    facts_of = torch.tensor([owner for owner, _ in pairs], dtype=torch.int64)
    num_facts = torch.bincount(facts_of, minlength=int(owners.max()) + 1 if len(owners) else 0)
    return (owners >= 0) & (num_facts[owners.clamp(min=0)] > 1)
