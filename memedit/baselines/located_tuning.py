"""LocFT-BF: fine-tune one MLP down-projection, breadth-first over all facts, end token on the targets.

Everything below the projection is frozen, so it is computed once for each row; the backward ends at the
projection.

Source: LocFT-BF 2025 (arXiv 2509.22072).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from memedit.baselines.dense_training import answer_loss, num_bytes, padded_ids, train_dense, trainable
from memedit.baselines.teaching import Taught, Teaching
from memedit.editing.frozen_blocks import FrozenBlocks, PrefixKeys, round_up
from memedit.modeling import EncodedFact, MemoryLlamaForCausalLM
from memedit.modeling.lower_blocks import ffn_inputs, length_batches

_BATCH_TOKENS = 2048


@contextmanager
def teach(teaching: Teaching) -> Iterator[Taught]:
    """Teach one projection; see memedit.baselines.teaching."""
    model = teaching.opened.model
    layer = layer_at(model, teaching.settings["depth"])
    weight = model.model.layers[layer].mlp.down_proj.weight
    with trainable([weight]):
        with teaching.meter.running():
            rows = [row.encoded for row in teaching.rows()]
            located = _Located(model, layer, rows)
            train_dense(teaching, [len(row.ids) for row in rows], located.loss_of, [weight])
        yield Taught(teaching.respondent(), num_bytes([weight]))


def layer_at(model: MemoryLlamaForCausalLM, depth: float) -> int:
    """Index of the block at a share of the model's depth, 0 the first and 1 the last."""
    return round(min(depth, 1.0) * (model.config.num_hidden_layers - 1))


class _Located:
    """The rows below the projection, and the loss above it."""

    def __init__(self, model: MemoryLlamaForCausalLM, layer: int, rows: Sequence[EncodedFact]) -> None:
        self.rows, self.mlp = rows, model.model.layers[layer].mlp
        self.blocks = FrozenBlocks(model, layer + 1)
        self.below: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * len(rows)
        for batch in length_batches([len(row.ids) for row in rows], _BATCH_TOKENS):
            residual, normalised = ffn_inputs(model, layer, padded_ids([rows[index] for index in batch]))
            for place, index in enumerate(batch):
                length = len(rows[index].ids) - 1
                self.below[index] = (residual[place, :length].clone(), normalised[place, :length].clone())

    def loss_of(self, batch: Sequence[int]) -> Tensor:
        """Mean cross-entropy of the answer tokens of some rows."""
        longest = round_up(max(len(self.below[index][0]) for index in batch), 4)
        residual, normalised = (
            torch.stack([_padded(self.below[index][part], longest) for index in batch]) for part in (0, 1)
        )
        with torch.no_grad():
            inner = self.mlp.act_fn(self.mlp.gate_proj(normalised)) * self.mlp.up_proj(normalised)
        hidden = residual + self.mlp.down_proj(inner)
        out = self.blocks.forward(hidden, self._no_prefixes(len(batch), hidden))
        return answer_loss([self.rows[index] for index in batch], out, self.blocks.logits)

    def _no_prefixes(self, num: int, hidden: Tensor) -> list[PrefixKeys]:
        blocks = self.blocks
        nothing = hidden.new_empty(len(blocks.blocks), blocks.kv_heads, 0, blocks.head_dim)
        return [PrefixKeys(nothing, nothing, torch.empty(0, dtype=torch.int64))] * num


def _padded(part: Tensor, length: int) -> Tensor:
    return functional.pad(part, (0, 0, 0, length - len(part)))
