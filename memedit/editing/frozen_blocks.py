"""The frozen blocks above a memory layer, as fast functions for short rows.

Training a patch needs the gradient with respect to a few positions' inputs and none for the weights. Two savings
make that cheap on a CPU: linear layers keep a transposed copy, so that their backward is one fast product; and
everything before the first position that an edit can change is computed once, as keys and values that later
positions attend to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from memedit.modeling import MemoryLlamaForCausalLM


class _FrozenProduct(torch.autograd.Function):
    """x @ weight.T whose backward uses a stored transpose and makes no weight gradient."""

    @staticmethod
    def forward(ctx, inputs, weight, transposed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN205
        ctx.transposed = transposed
        return functional.linear(inputs, weight)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN205
        return functional.linear(gradient, ctx.transposed), None, None


class FrozenLinear:
    """One or more linear layers with the same input, fused, without a weight gradient."""

    def __init__(self, *layers: nn.Linear) -> None:
        self.weight = torch.cat([layer.weight.detach() for layer in layers]) if len(layers) > 1 else layers[0].weight.detach()
        self.transposed = self.weight.t().contiguous()
        biases = [layer.bias for layer in layers]
        self.bias = torch.cat([b.detach() for b in biases if b is not None]) if biases[0] is not None else None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Apply the layers to [..., in]; the outputs stand side by side."""
        product: Tensor = _FrozenProduct.apply(inputs, self.weight, self.transposed)
        return product if self.bias is None else product + self.bias


@dataclass(frozen=True)
class PrefixKeys:
    """Keys and values of the tokens before a row's first changeable position.

    Attributes:
        keys: [blocks, kv_heads, prefix, head_dim], rotary positions applied.
        values: [blocks, kv_heads, prefix, head_dim].
    """

    keys: Tensor
    values: Tensor

    @property
    def length(self) -> int:
        """Tokens in the prefix."""
        return self.keys.shape[2]


class FrozenBlocks:
    """Blocks first, first + 1, ... of a model, its final norm and its head.

    Args:
        model: the model; its weights are read, not changed.
        first: index of the first block.
    """

    def __init__(self, model: MemoryLlamaForCausalLM, first: int) -> None:
        config = model.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.epsilon = config.head_dim, config.rms_norm_eps
        self.rotary = model.model.rotary_emb
        self.activation = ACT2FN[config.hidden_act]
        self.final_norm = model.model.norm.weight.detach()
        self.head = FrozenLinear(model.lm_head)
        self.blocks = [_FrozenBlock(block) for block in model.model.layers[first:]]

    @torch.no_grad()
    def prefix_keys(self, hidden: Tensor, lengths: Sequence[int]) -> list[PrefixKeys]:
        """Run prefixes and keep their keys and values.

        Args:
            hidden: [batch, time, hidden_size], inputs of the first block, padded on the right.
            lengths: tokens of each row's prefix.
        """
        batch, time, _ = hidden.shape
        positions = torch.arange(time).expand(batch, time)
        mask = torch.full((time, time), float("-inf")).triu(1).expand(batch, time, time)
        kept = []
        for block in self.blocks:
            hidden, keys, values = self._run(block, hidden, positions, mask, None)
            kept.append((keys, values))
        keys, values = (torch.stack(parts) for parts in zip(*kept, strict=True))
        return [
            PrefixKeys(keys[:, row, :, :length].clone(), values[:, row, :, :length].clone())
            for row, length in enumerate(lengths)
        ]

    def forward(self, hidden: Tensor, prefixes: Sequence[PrefixKeys]) -> Tensor:
        """Run the suffixes behind their prefixes.

        Args:
            hidden: [batch, time, hidden_size], inputs of the first block from each row's first changeable position
                on, padded on the right.
            prefixes: one a row.

        Returns:
            [batch, time, hidden_size], the last block's output.
        """
        batch, time, _ = hidden.shape
        lengths = torch.tensor([prefix.length for prefix in prefixes])
        longest = int(lengths.max())
        positions = lengths[:, None] + torch.arange(time)
        mask = torch.zeros(batch, time, longest + time)
        mask[:, :, :longest].masked_fill_((torch.arange(longest) >= lengths[:, None])[:, None], float("-inf"))
        mask[:, :, longest:] = torch.full((time, time), float("-inf")).triu(1)
        keys, values = (_pad([getattr(p, name) for p in prefixes], longest) for name in ("keys", "values"))
        for index, block in enumerate(self.blocks):
            hidden, _, _ = self._run(block, hidden, positions, mask, (keys[:, index], values[:, index]))
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Final norm and head: [..., hidden_size] -> fp32 [..., vocabulary]."""
        normalised = functional.rms_norm(hidden, hidden.shape[-1:], self.final_norm, self.epsilon)
        return self.head(normalised).float()

    def _run(
        self,
        block: "_FrozenBlock",
        hidden: Tensor,
        positions: Tensor,
        mask: Tensor,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One block; returns its output and the new tokens' keys and values [batch, kv_heads, time, head_dim]."""
        batch, time, width = hidden.shape
        sizes = [self.heads * self.head_dim, self.kv_heads * self.head_dim, self.kv_heads * self.head_dim]
        normalised = functional.rms_norm(hidden, (width,), block.attention_norm, self.epsilon)
        split = block.query_key_value(normalised).split(sizes, -1)
        queries, keys, values = (part.view(batch, time, -1, self.head_dim).transpose(1, 2) for part in split)
        cos, sin = (part[:, None] for part in self.rotary(hidden, position_ids=positions))
        queries, keys = _rotate(queries, cos, sin), _rotate(keys, cos, sin)
        all_keys, all_values = keys, values
        if past is not None:
            all_keys, all_values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        attended = self._attend(queries, all_keys, all_values, mask)
        hidden = hidden + block.output(attended.transpose(1, 2).reshape(batch, time, -1))
        normalised = functional.rms_norm(hidden, (width,), block.ffn_norm, self.epsilon)
        gate, up = block.gate_up(normalised).chunk(2, -1)
        return hidden + block.down(self.activation(gate) * up), keys, values

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Plain attention, query heads grouped by their key head: faster than a fused kernel on short CPU rows."""
        batch, heads, time, width = queries.shape
        groups = heads // self.kv_heads
        grouped = queries.reshape(batch * self.kv_heads, groups * time, width)
        scores = torch.bmm(grouped, keys.flatten(0, 1).transpose(1, 2)).float() * width**-0.5
        scores = scores.view(batch, self.kv_heads, groups, time, -1) + mask[:, None, None]
        weights = scores.softmax(-1).to(values.dtype).view(batch * self.kv_heads, groups * time, -1)
        return torch.bmm(weights, values.flatten(0, 1)).view(batch, heads, time, width)


class _FrozenBlock:
    def __init__(self, block: LlamaDecoderLayer) -> None:
        attention, ffn = block.self_attn, block.mlp
        self.attention_norm = block.input_layernorm.weight.detach()
        self.ffn_norm = block.post_attention_layernorm.weight.detach()
        self.query_key_value = FrozenLinear(attention.q_proj, attention.k_proj, attention.v_proj)
        self.output = FrozenLinear(attention.o_proj)
        self.gate_up = FrozenLinear(ffn.gate_proj, ffn.up_proj)
        self.down = FrozenLinear(ffn.down_proj)


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = states.chunk(2, -1)
    return states * cos + torch.cat([-second, first], -1) * sin


def _pad(parts: Sequence[Tensor], longest: int) -> Tensor:
    """Stack [blocks, kv_heads, length, head_dim] tensors to [rows, blocks, kv_heads, longest, head_dim]."""
    blocks, heads, _, width = parts[0].shape
    padded = parts[0].new_zeros(len(parts), blocks, heads, longest, width)
    for row, part in enumerate(parts):
        padded[row, :, :, : part.shape[2]] = part
    return padded
