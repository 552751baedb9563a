"""The frozen lower part of a Llama: everything below a block's FFN, computed without gradients.

Routing depends on nothing above it, so calibration, background statistics and slot selection run only these
blocks.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from memedit.modeling.model import MemoryLlamaForCausalLM, MemoryStep
from memedit.modeling.token_tree import TokenTree


def pad_right(rows: Sequence[Sequence[int]], filler: int = 0) -> Tensor:
    """Stack rows of unequal length, int64 [rows, longest]; causal attention never looks at the filler."""
    longest = max(len(row) for row in rows)
    return torch.tensor([list(row) + [filler] * (longest - len(row)) for row in rows])


@torch.no_grad()
def ffn_inputs(
    model: LlamaForCausalLM | MemoryLlamaForCausalLM, layer: int, ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the blocks below a block's FFN.

    Args:
        model: a Llama, with or without memory layers.
        layer: index of the block.
        ids: int64 [batch, time], begin token first, padded on the right.

    Returns:
        The residual stream after the block's attention and its normalised form, both
        [batch, time, hidden_size].
    """
    return ffn_inputs_of(model, [layer], ids)[layer]


@torch.no_grad()
def tree_ffn_inputs(
    model: LlamaForCausalLM | MemoryLlamaForCausalLM, layer: int, tree: TokenTree
) -> tuple[Tensor, Tensor]:
    """Run the blocks below a block's FFN on rows that share their beginnings.

    Args:
        model: a Llama, with or without memory layers.
        layer: index of the block.
        tree: the rows, begin token first.

    Returns:
        What ffn_inputs returns, for every node: [nodes, hidden_size].
    """
    mask = tree.mask(model.model.embed_tokens.weight.dtype)
    ((residual, normalised),) = _through_blocks(
        model,
        [layer],
        tree.tokens[None],
        tree.depths[None],
        mask[None, None],
        windows=lambda hidden, window: tree.windows(hidden[0], window),
    ).values()
    return residual[0], normalised[0]


@torch.no_grad()
def ffn_inputs_of(
    model: LlamaForCausalLM | MemoryLlamaForCausalLM, layers: Sequence[int], ids: Tensor
) -> dict[int, tuple[Tensor, Tensor]]:
    """Run the lower blocks once for several blocks' FFN inputs.

    Args:
        model: a Llama, with or without memory layers.
        layers: indices of the blocks.
        ids: int64 [batch, time], begin token first, padded on the right.

    Returns:
        What ffn_inputs returns, for each block.
    """
    return _through_blocks(model, layers, ids, torch.arange(ids.shape[1], device=ids.device)[None], None)


def _through_blocks(
    model: LlamaForCausalLM | MemoryLlamaForCausalLM,
    layers: Sequence[int],
    ids: Tensor,
    positions: Tensor,
    mask: Tensor | None,
    windows: Callable[[Tensor, int], Tensor] | None = None,
) -> dict[int, tuple[Tensor, Tensor]]:
    decoder = model.model
    hidden = decoder.embed_tokens(ids)
    step = {
        "attention_mask": mask,
        "position_ids": positions,
        "position_embeddings": decoder.rotary_emb(hidden, position_ids=positions),
    }
    # A memory layer below the block needs its tables; a plain Llama's blocks know none.
    has_memory = isinstance(model, MemoryLlamaForCausalLM)
    tables = {"memory_step": MemoryStep(tuple(decoder.tables()), None, windows)} if has_memory else {}
    found = {}
    for index, block in enumerate(decoder.layers[: max(layers) + 1]):
        if index in layers:
            attended, _ = block.self_attn(hidden_states=block.input_layernorm(hidden), **step)
            residual = hidden + attended
            found[index] = (residual, block.post_attention_layernorm(residual))
        if index < max(layers):
            hidden = block(hidden, **step, **tables)
    return found


def length_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Group row indices by similar length so that no padded batch holds more than max_tokens tokens."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and lengths[index] * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


@torch.no_grad()
def residual_rms(model: LlamaForCausalLM | MemoryLlamaForCausalLM, layer: int, ids: Tensor) -> float:
    """Root mean square of the residual stream that a block's FFN output is added to.

    Args:
        model: a Llama, with or without memory layers.
        layer: index of the block.
        ids: int64 [batch, time], begin token first, without padding. The begin token does not count: its
            state is many times larger than that of any other.
    """
    residual, _ = ffn_inputs(model, layer, ids)
    return float(residual[:, 1:].float().square().mean().sqrt())
