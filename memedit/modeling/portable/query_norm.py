# SPDX-License-Identifier: Apache-2.0
"""Normalisation of a memory layer's queries (and sub-keys), in fp32 like all of routing.

Without one, scores grow with the hidden state and few slots get all look-ups; batch normalisation spreads
them most evenly. Part of memedit and of the code that an exported model carries.

Source: batch normalisation of queries, Lample et al. 2019 (arXiv 1907.05242), section 3.1; qk-norm, Berges et
al. 2024 (arXiv 2412.09764), section 2.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_memory_llama import MemoryLlamaConfig


class QueryNorm(nn.Module):
    """What memory_query_norm names; without parameters for "none" and "halves"."""

    def __init__(self, config: MemoryLlamaConfig) -> None:
        super().__init__()
        self.kind, self.half_dim = config.memory_query_norm, config.memory_key_dim // 2
        self.layer = self.batch = self.query_gain = self.key_gain = None
        if self.kind == "layer":
            self.layer = nn.LayerNorm(config.memory_key_dim, dtype=torch.float32)
        elif self.kind == "batch":
            width = config.memory_heads * config.memory_key_dim
            self.batch = nn.BatchNorm1d(width, dtype=torch.float32)
        elif self.kind == "qk":
            self.query_gain, self.key_gain = (
                nn.Parameter(torch.ones(config.memory_heads, 2, self.half_dim, dtype=torch.float32))
                for _ in range(2)
            )

    def forward(self, queries: Tensor, sub_keys: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise.

        Args:
            queries: fp32 [tokens, heads, key_dim].
            sub_keys: fp32 [heads, 2, n, key_dim / 2].

        Returns:
            Both, in the same shapes.
        """
        if self.layer is not None:
            return self.layer(queries), sub_keys
        if self.batch is not None:
            return self.batch(queries.flatten(1)).view_as(queries), sub_keys
        if self.kind == "none":
            return queries, sub_keys
        halves = queries.view(len(queries), -1, 2, self.half_dim)
        if self.query_gain is None or self.key_gain is None:
            halves, sub_keys = functional.normalize(halves, dim=-1), functional.normalize(sub_keys, dim=-1)
        else:
            halves = functional.rms_norm(halves, (self.half_dim,)) * self.query_gain
            sub_keys = functional.rms_norm(sub_keys, (self.half_dim,)) * self.key_gain[:, :, None]
        return halves.view_as(queries), sub_keys
