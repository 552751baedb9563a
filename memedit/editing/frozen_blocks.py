"""The frozen blocks above a memory layer, as functions for short rows.

Training a patch needs the gradient with respect to a few positions' inputs and none for the weights.
Everything before the first position that an edit can change is computed once, as keys and values that later
positions attend to; attention is written out, which on short CPU rows is faster than a fused kernel's
backward; and the norm has a hand-written backward, for a third of a step went into its decomposed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from memedit.modeling import MemoryLlamaForCausalLM
from memedit.modeling.arithmetic import stored_dtypes
from memedit.modeling.token_tree import TokenTree


class _RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight in fp32, without a weight gradient.

    Source: Zhang & Sennrich 2019 (arXiv 1910.07467).
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = inputs.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(epsilon))
        unit = wide.mul_(scale) if wide is not inputs else wide * scale
        ctx.save_for_backward(unit, scale, weight)
        return (unit * weight).to(inputs.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        unit, scale, weight = ctx.saved_tensors
        wide = gradient.float() * weight
        along = (wide * unit).mean(-1, keepdim=True)
        return wide.sub_(unit * along).mul_(scale).to(gradient.dtype), None, None


def _rms_norm(inputs: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    normalised: Tensor = _RmsNorm.apply(inputs, weight, epsilon)  # type: ignore[no-untyped-call]
    return normalised


class FrozenLinear:
    """A linear layer without a weight gradient; its weights are shared, not copied."""

    def __init__(self, layer: nn.Linear) -> None:
        self.weight = layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Apply the layer to [..., in]."""
        return functional.linear(inputs, self.weight, self.bias)


@dataclass(frozen=True)
class PrefixKeys:
    """Keys and values of the tokens before a row's first changeable position.

    Attributes:
        keys: [blocks, kv_heads, nodes, head_dim], rotary positions applied, in the type of the model's file;
            the same tensor for all rows of a tree.
        values: [blocks, kv_heads, nodes, head_dim].
        nodes: int64 [prefix], which of them are this row's.
    """

    keys: Tensor
    values: Tensor
    nodes: Tensor

    @property
    def length(self) -> int:
        """Tokens in the prefix."""
        return len(self.nodes)


class FrozenBlocks:
    """Blocks first, first + 1, ... of a model, its final norm and its head.

    Args:
        model: the model; its weights are read, not changed.
        first: index of the first block.
    """

    def __init__(self, model: MemoryLlamaForCausalLM, first: int) -> None:
        config = model.config
        # LlamaConfig fills both in.
        assert config.num_key_value_heads is not None
        assert config.head_dim is not None
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.epsilon = config.head_dim, config.rms_norm_eps
        self.rotary = model.model.rotary_emb
        self.activation = ACT2FN[config.hidden_act]
        self.final_norm = model.model.norm.weight.detach().float()
        self.head = FrozenLinear(model.lm_head)
        self.blocks = [_FrozenBlock(block) for block in model.model.layers[first:]]
        # A prefix takes the room that it takes in the type of the file: there are megabytes of them a fact.
        self.kept_type = stored_dtypes(model).get("model.embed_tokens.weight", model.dtype)

    @torch.no_grad()
    def prefix_keys(self, hidden: Tensor, tree: TokenTree) -> list[PrefixKeys]:
        """Run prefixes and keep their keys and values, those of shared beginnings once.

        Args:
            hidden: [nodes, hidden_size], inputs of the first block.
            tree: the prefixes; each may be empty.

        Returns:
            One for each row of the tree, in its order.
        """
        hidden, mask = hidden[None], tree.mask(torch.float32)[None]
        rotary = self._rotary(hidden, tree.depths[None])
        kept = []
        for block in self.blocks:
            hidden, *found = self._run(block, hidden, rotary, mask, None)
            kept.append([part[0].to(self.kept_type) for part in found])
        if kept:
            keys, values = (torch.stack(parts) for parts in zip(*kept, strict=True))
        else:
            # The memory layer is in the last block.
            keys = values = hidden.new_zeros(0, self.kv_heads, hidden.shape[1], self.head_dim)
        return [PrefixKeys(keys, values, path) for path in tree.paths]

    def forward(self, hidden: Tensor, prefixes: Sequence[PrefixKeys]) -> Tensor:
        """Run the suffixes behind their prefixes.

        Args:
            hidden: [batch, time, hidden_size], inputs of the first block from each row's first changeable
                position on, padded on the right.
            prefixes: one a row.

        Returns:
            [batch, time, hidden_size], the last block's output.
        """
        batch, time, _ = hidden.shape
        lengths = torch.tensor([prefix.length for prefix in prefixes])
        longest = round_up(int(lengths.max()), 8)
        rotary = self._rotary(hidden, lengths[:, None] + torch.arange(time))
        mask = torch.zeros(batch, time, longest + time)
        mask[:, :, :longest].masked_fill_((torch.arange(longest) >= lengths[:, None])[:, None], float("-inf"))
        mask[:, :, longest:] = torch.full((time, time), float("-inf")).triu(1)
        keys, values = (
            _pad([getattr(prefix, name)[:, :, prefix.nodes] for prefix in prefixes], longest, hidden.dtype)
            for name in ("keys", "values")
        )
        for index, block in enumerate(self.blocks):
            hidden, _, _ = self._run(block, hidden, rotary, mask, (keys[:, index], values[:, index]))
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Final norm and head: [..., hidden_size] -> fp32 [..., vocabulary]."""
        return self.head(_rms_norm(hidden, self.final_norm, self.epsilon)).float()

    def _rotary(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self.rotary(hidden, position_ids=positions)
        return cos[:, None], sin[:, None]

    def _run(
        self,
        block: "_FrozenBlock",
        hidden: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One block: its output, and the new tokens' keys and values [batch, kv_heads, time, head_dim]."""
        batch, time, _ = hidden.shape
        normalised = _rms_norm(hidden, block.attention_norm, self.epsilon)
        together = torch.cat([block.query(normalised), block.key(normalised)], -1)
        heads = together.view(batch, time, self.heads + self.kv_heads, self.head_dim).transpose(1, 2)
        cos, sin = rotary
        queries, keys = _rotate(heads, cos, sin).split([self.heads, self.kv_heads], 1)
        values = block.value(normalised).view(batch, time, self.kv_heads, self.head_dim).transpose(1, 2)
        all_keys, all_values = keys, values
        if past is not None:
            all_keys, all_values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        attended = self._attend(queries, all_keys, all_values, mask)
        hidden = hidden + block.output(attended.transpose(1, 2).flatten(2))
        normalised = _rms_norm(hidden, block.ffn_norm, self.epsilon)
        return (
            hidden + block.down(self.activation(block.gate(normalised)) * block.up(normalised)),
            keys,
            values,
        )

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Plain attention, query heads grouped by key head: faster than a fused kernel on short CPU rows."""
        batch, heads, time, width = queries.shape
        groups = heads // self.kv_heads
        grouped = queries.reshape(batch * self.kv_heads, groups * time, width)
        scores = torch.bmm(grouped, keys.flatten(0, 1).transpose(1, 2)).float() * width**-0.5
        scores = scores.view(batch, self.kv_heads, groups, time, keys.shape[2]) + mask[:, None, None]
        weights = scores.softmax(-1).to(values.dtype).view(grouped.shape[0], grouped.shape[1], keys.shape[2])
        return torch.bmm(weights, values.flatten(0, 1)).view(batch, heads, time, width)


class _FrozenBlock:
    def __init__(self, block: LlamaDecoderLayer) -> None:
        attention, ffn = block.self_attn, block.mlp
        self.attention_norm = block.input_layernorm.weight.detach().float()
        self.ffn_norm = block.post_attention_layernorm.weight.detach().float()
        self.query, self.key, self.value, self.output, self.gate, self.up, self.down = (
            FrozenLinear(layer)
            for layer in (
                attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj,
                ffn.gate_proj, ffn.up_proj, ffn.down_proj,
            )
        )  # fmt: skip


def round_up(length: int, multiple: int) -> int:
    """The next multiple: few distinct shapes keep the matrix library's cache of compiled kernels small."""
    return -(-length // multiple) * multiple


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = states.chunk(2, -1)
    return states * cos + torch.cat([-second, first], -1) * sin


def _pad(parts: Sequence[Tensor], longest: int, dtype: torch.dtype) -> Tensor:
    """Stack [blocks, kv_heads, length, head_dim] tensors to [rows, blocks, kv_heads, longest, head_dim]."""
    blocks, heads, _, width = parts[0].shape
    padded = parts[0].new_zeros(len(parts), blocks, heads, longest, width, dtype=dtype)
    for row, part in enumerate(parts):
        padded[row, :, :, : part.shape[2]] = part
    return padded
