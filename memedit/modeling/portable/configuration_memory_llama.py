# SPDX-License-Identifier: Apache-2.0
"""Configuration of a memory-layer Llama: a LlamaConfig and the fields that start with `memory_`.

Part of the code that an exported model carries; modeling_memory_llama.py says what the fields do. It needs
transformers (5 or newer) and nothing else.
"""

from dataclasses import field
from typing import Any

from transformers import LlamaConfig

CHOICES = {
    "memory_placement": ("parallel", "replace"),
    "memory_query_norm": ("none", "halves", "layer", "batch", "qk"),
    "memory_variant": ("values", "peer"),
    "memory_write_position": ("subject", "answer"),
}
"""What modeling_memory_llama.py can compute; a value that is not here is refused."""

_PER_TABLE = ("rows", "values", "owners", "query_dims")


class MemoryLlamaConfig(LlamaConfig):
    """Configuration of MemoryLlamaForCausalLM; the fields of LlamaConfig hold too.

    Attributes:
        memory_layers: indices of the blocks that carry a memory layer, ascending.
        memory_placement: "parallel" (beside the FFN) or "replace" (in its place).
        memory_num_keys: sub-keys per half, n; a table has n * n slots.
        memory_key_dim: width of a head's query, both halves together.
        memory_heads: look-ups per token and layer.
        memory_top_k: slots per head and token.
        memory_value_dim: width of a slot's value; None = hidden_size.
        memory_query_window: how many tokens' hidden states a query sees.
        memory_query_norm: how queries (and sub-keys) are normalised, see QueryNorm.
        memory_variant: "values": a slot is a value row; "peer": a slot is a single-neuron expert.
        memory_write_position: where memedit's edits write; a forward does not read it.
        memory_temperature: factor on the scores before the softmax.
        memory_gated_output: output = W_o(bag * silu(W_g x)).
        memory_output_projection: output = W_o(bag).
        memory_shared_table: one value table for all memory layers instead of one each.
        memory_empty_base: there are no base rows: only what was written counts.
        memory_overlay_rows: written slots, per table.
        memory_overlay_values: distinct written rows, per table; 0 = one for each slot.
        memory_overlay_owners: owners (subjects) of written rows, per table.
        memory_overlay_query_dims: width of the queries that discriminants look at, per table; 0 = none.
        memory_overlay_owner_names: the owners' names, per table.
        memory_bos_token_id: the token that belongs in front of every prompt; None = what the tokenizer says.
    """

    model_type = "memory_llama"

    memory_layers: list[int] = field(default_factory=list)
    memory_placement: str = "parallel"
    memory_num_keys: int = 256
    memory_key_dim: int = 128
    memory_heads: int = 4
    memory_top_k: int = 16
    memory_value_dim: int | None = None
    memory_query_window: int = 1
    memory_query_norm: str = "none"
    memory_variant: str = "values"
    memory_temperature: float = 1.0
    memory_gated_output: bool = False
    memory_output_projection: bool = False
    memory_shared_table: bool = True
    memory_empty_base: bool = False
    memory_overlay_rows: list[int] = field(default_factory=list)
    memory_overlay_values: list[int] = field(default_factory=list)
    memory_overlay_owners: list[int] = field(default_factory=list)
    memory_overlay_query_dims: list[int] = field(default_factory=list)
    memory_overlay_owner_names: list[list[str]] = field(default_factory=list)
    memory_write_position: str = "subject"
    memory_bos_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse what the model's code does not know, and give every table its entries."""
        unknown = sorted(key for key in kwargs if key.startswith("memory_"))
        if unknown:
            raise ValueError(f"unknown fields {unknown}: this folder's code does not know them")
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected one of {', '.join(choices)}")
        for name in _PER_TABLE:
            given = list(getattr(self, f"memory_overlay_{name}"))
            setattr(self, f"memory_overlay_{name}", given or [0] * self.num_memory_tables)

    @property
    def num_memory_tables(self) -> int:
        """How many value tables the model has: 0 without memory layers, 1 when shared, else one a layer."""
        return min(1, len(self.memory_layers)) if self.memory_shared_table else len(self.memory_layers)

    @property
    def value_dim(self) -> int:
        """Width of a slot's value."""
        return self.hidden_size if self.memory_value_dim is None else self.memory_value_dim
