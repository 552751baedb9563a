"""Row states: what the frozen lower blocks make of rows, computed once per edit.

Everything below the first memory layer is frozen, so its output and that layer's routing never change while a
patch is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.editing.rows import TeachingRow
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
    """

    hidden: Tensor
    slots: Tensor
    weights: Tensor
    queries: Tensor


def memory_block(model: MemoryLlamaForCausalLM) -> tuple[int, MemoryLayer]:
    """Return index and memory layer of the block that edits write to.

    Raises:
        ValueError: when the model has not exactly one memory layer, or its rows do not reach the residual
            stream as they are.
    """
    layers = model.memory_layers()
    if len(layers) != 1:
        raise ValueError(f"model: got {len(layers)} memory layers, expected 1: edits write to one layer")
    ((index, memory),) = layers.items()
    if memory.output_projection is not None or model.config.memory_variant != "values":
        raise ValueError(
            "model: got a memory layer with an output projection or experts, expected plain value rows: an "
            "edit's rows are added to the residual stream as they are"
        )
    return index, memory


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
            parts = (hidden, routing.slots, routing.weights, routing.queries.half())
            for index, path in zip(tree.rows, tree.paths, strict=True):
                found[index] = RowState(*(part[path] for part in parts))
            task.advance(len(tree.rows))
    return [state for state in found if state is not None]


def _unwritten(
    model: MemoryLlamaForCausalLM, layer: int, residual: Tensor, normalised: Tensor, routing: TokenRouting
) -> Tensor:
    """The memory block's output as if nothing were written: its FFN, where it has one, and the base rows."""
    block, (table,) = model.model.layers[layer], model.memory_tables()
    hidden = residual if block.mlp is None else residual + block.mlp(normalised)
    base = table.base_bag(routing.slots, routing.weights)
    return hidden if base is None else hidden + base.to(hidden.dtype)


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
