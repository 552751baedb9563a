"""Lessons: rows cut down to what training has to compute.

An edit can change nothing before the first token at which its gate opens. Up to there a row is a prefix whose
keys and values are computed once; what is left, from that token to the end of the answer, is the lesson. Its
gated look-ups are fixed too, since routing does not depend on what is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from memedit_kernels.slot_rows import slot_rows
from torch import Tensor

from memedit.editing.frozen_blocks import FrozenBlocks, PrefixKeys
from memedit.editing.output_path import OutputPath
from memedit.editing.row_states import RowState
from memedit.editing.rows import TeachingRow
from memedit.modeling import MemoryLayer, Overlay, gated_look_ups
from memedit.modeling.token_tree import token_trees
from memedit.progress import NULL_PROGRESS, Progress


@dataclass(frozen=True)
class Lesson:
    """The part of a row from its first open gate on.

    Attributes:
        fact: index of the fact.
        prefix: keys and values of what comes before.
        hidden: [time, hidden_size], the memory block's output, earlier edits included, this one not.
        slots: int64 [time, heads * k].
        weights: fp32 [time, heads * k], after the ownership gate; 0 where a look-up reads nothing that is
            trained.
        answer: int64 [answer], the tokens to learn.
        answer_start: index in hidden of the token that predicts the first of them.
        gates: [time, value_dim], what the layer's output path multiplies a bag with; None = nothing.
    """

    fact: int
    prefix: PrefixKeys
    hidden: Tensor
    slots: Tensor
    weights: Tensor
    answer: Tensor
    answer_start: int
    gates: Tensor | None = None


@dataclass(frozen=True)
class _OpenRow:
    """A row whose gate opens somewhere: where, and what it reads there."""

    row: TeachingRow
    hidden: Tensor
    first: int
    slots: Tensor
    weights: Tensor
    gates: Tensor | None


@torch.no_grad()
def make_lessons(
    rows: Sequence[TeachingRow],
    states: Sequence[RowState],
    blocks: FrozenBlocks,
    overlay: Overlay,
    slots: Tensor,
    memory: MemoryLayer,
    progress: Progress = NULL_PROGRESS,
) -> list[Lesson]:
    """Cut rows into prefixes and lessons.

    Args:
        rows: what is taught.
        states: the rows at the memory layer.
        blocks: the frozen blocks above it.
        overlay: everything that will be written when the edit is done: earlier edits, and this one
            with zeros.
        slots: int64 [selected], ascending: the slots that are trained.
        memory: the memory layer.
        progress: told of rows done.

    Returns:
        The lessons; rows at which no gate opens for a trained slot are left out, for they cannot be taught.
    """
    output = OutputPath(memory)
    opened = [
        _open_row(row, state, overlay, slots, memory.heads, output)
        for row, state in zip(rows, states, strict=True)
    ]
    usable = [row for row in opened if row is not None]
    lessons: list[Lesson | None] = [None] * len(usable)
    with progress.task("Preparing the training rows", len(usable)) as task:
        for tree in token_trees([row.row.encoded.ids[: row.first] for row in usable]):
            hidden = usable[0].hidden.new_empty(len(tree.tokens), usable[0].hidden.shape[-1])
            for index, path in zip(tree.rows, tree.paths, strict=True):
                # Where rows begin alike, so do their states: nothing that is trained speaks there yet.
                hidden[path] = usable[index].hidden[: usable[index].first]
            for index, kept in zip(tree.rows, blocks.prefix_keys(hidden, tree), strict=True):
                lessons[index] = _lesson(usable[index], kept)
            task.advance(len(tree.rows))
    return [lesson for lesson in lessons if lesson is not None]


def _open_row(
    row: TeachingRow, state: RowState, overlay: Overlay, slots: Tensor, heads: int, output: OutputPath
) -> _OpenRow | None:
    found = gated_look_ups(overlay, state.slots, state.weights, state.queries, heads)
    written, gated = found.rows, found.weights
    trained = gated.masked_fill(slot_rows(state.slots, slots) < 0, 0.0)
    opens = (trained != 0).any(-1).nonzero().flatten()
    first = int(opens[0]) if len(opens) else len(state.hidden)
    if first >= row.encoded.num_prompt:
        return None
    earlier = output(_earlier_edits(overlay, written, gated), state.gates, state.hidden.dtype)
    gates = None if state.gates is None else state.gates[first:].clone()
    return _OpenRow(row, state.hidden + earlier, first, state.slots[first:], trained[first:], gates)


def _earlier_edits(overlay: Overlay, written: Tensor, gated: Tensor) -> Tensor:
    """What rows already written sum to, fp32 [time, dim] (trained rows hold zeros or their old values)."""
    values = overlay.values_at(written.clamp(min=0))
    return (values * gated.masked_fill(written < 0, 0.0)[..., None]).sum(-2)


def _lesson(opened: _OpenRow, prefix: PrefixKeys) -> Lesson:
    encoded = opened.row.encoded
    return Lesson(
        fact=opened.row.fact,
        prefix=prefix,
        hidden=opened.hidden[opened.first :].clone(),
        slots=opened.slots,
        weights=opened.weights,
        answer=torch.tensor(encoded.answer_ids),
        answer_start=encoded.num_prompt - 1 - opened.first,
        gates=opened.gates,
    )
