"""Row states: what the frozen lower blocks make of rows, computed once per edit.

Edits write to the last memory layer. Everything below is frozen, so its output and that layer's routing never
change while a patch is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.editing.rows import TeachingRow
from memedit.errors import UsageError
from memedit.modeling import MemoryLayer, MemoryLlamaForCausalLM
from memedit.modeling.lower_blocks import tree_ffn_inputs
from memedit.modeling.memory_layer import TokenRouting
from memedit.modeling.token_tree import token_trees
from memedit.progress import NULL_PROGRESS, Progress


@dataclass(frozen=True)
class RowState:
    """One row below and at the memory layer.

    Attributes:
        hidden: [time, hidden_size], the block's output as if nothing were written.
        slots: int64 [time, heads * k].
        weights: fp32 [time, heads * k].
        queries: fp16 [time, heads * key_dim]: as many as hidden, and a discriminant sees no difference.
        gates: [time, value_dim], what the layer's output path multiplies a bag with; None = nothing.
    """

    hidden: Tensor
    slots: Tensor
    weights: Tensor
    queries: Tensor
    gates: Tensor | None = None


def memory_block(model: MemoryLlamaForCausalLM) -> tuple[int, MemoryLayer]:
    """Return index and memory layer of the block that edits write to.

    Raises:
        UsageError: when the model has no memory layer, or its slots are experts.
    """
    if not model.config.memory_layers:
        raise UsageError(
            "the model has no memory layer: there is nothing that an edit could write to",
            remedy="Give the plain Llama, which memedit retrofits, or a model with memory_layers.",
        )
    if model.config.memory_variant != "values":
        raise UsageError(
            f'the model has memory_variant "{model.config.memory_variant}": an expert\'s activation would '
            "scale what an edit writes",
            remedy='Edit a model with memory_variant "values".',
        )
    return model.edited_layer, model.memory_layers()[model.edited_layer]


@torch.no_grad()
def row_states(
    model: MemoryLlamaForCausalLM, rows: Sequence[TeachingRow], progress: Progress = NULL_PROGRESS
) -> list[RowState]:
    """Run the lower blocks and the memory block's FFN on whole rows; no row's last token is an input."""
    layer, memory = memory_block(model)
    found: list[RowState | None] = [None] * len(rows)
    with progress.task("Reading the facts", len(rows)) as task:
        for tree in token_trees([row.encoded.ids[:-1] for row in rows]):
            residual, normalised = tree_ffn_inputs(model, layer, tree)
            routing = memory.route_windows(tree.windows(normalised, memory.window))
            hidden = _unwritten(model, layer, residual, normalised, routing)
            gates, queries = memory.output_gates(normalised), routing.queries.half()
            for index, path in zip(tree.rows, tree.paths, strict=True):
                found[index] = RowState(
                    hidden[path],
                    routing.slots[path],
                    routing.weights[path],
                    queries[path],
                    None if gates is None else gates[path],
                )
            task.advance(len(tree.rows))
    return [state for state in found if state is not None]


def _unwritten(
    model: MemoryLlamaForCausalLM, layer: int, residual: Tensor, normalised: Tensor, routing: TokenRouting
) -> Tensor:
    """The memory block's output as if nothing were written: its FFN, where it has one, and the base rows."""
    block, table = model.model.layers[layer], model.memory_tables()[model.edited_table]
    hidden: Tensor = residual if block.mlp is None else residual + block.mlp(normalised)
    if table.is_silent(reads_written=False):
        return hidden
    base: Tensor = block.memory(normalised, table, routing, reads_written=False)
    return hidden + base


@dataclass(frozen=True)
class SubjectRouting:
    """Routing at the subject's last token of some rows.

    Attributes:
        owners: int64 [rows], the subject of each row.
        slots: int64 [rows, heads * k].
        weights: fp32 [rows, heads * k].
        queries: fp16 [rows, heads * key_dim]; [rows, 0] where nobody asks for them.
    """

    owners: Tensor
    slots: Tensor
    weights: Tensor
    queries: Tensor


@torch.no_grad()
def route_subjects(
    model: MemoryLlamaForCausalLM,
    rows: Sequence[TeachingRow],
    progress: Progress = NULL_PROGRESS,
    description: str = "Reading look-alikes",
) -> SubjectRouting:
    """Route only the subject's last token of each row: nothing behind it is computed.

    Args:
        model: the model.
        rows: wordings or look-alikes.
        progress: told of rows done.
        description: what it is told.
    """
    layer, memory = memory_block(model)
    width = memory.heads * memory.top_k
    slots = torch.empty(len(rows), width, dtype=torch.int64)
    weights = torch.empty(len(rows), width)
    queries = torch.empty(len(rows), memory.heads * memory.key_dim, dtype=torch.float16)
    with progress.task(description, len(rows)) as task:
        for tree in token_trees([row.encoded.ids[: row.subject_last + 1] for row in rows]):
            _, normalised = tree_ffn_inputs(model, layer, tree)
            last = torch.stack([path[-1] for path in tree.paths])
            found = memory.route_windows(tree.windows(normalised, memory.window)[last])
            batch = list(tree.rows)
            slots[batch], weights[batch], queries[batch] = found.slots, found.weights, found.queries.half()
            task.advance(len(batch))
    return SubjectRouting(
        torch.tensor([row.owner for row in rows], dtype=torch.int64), slots, weights, queries
    )
