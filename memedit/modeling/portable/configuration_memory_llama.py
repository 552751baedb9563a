# SPDX-License-Identifier: Apache-2.0
"""Configuration of a memory-layer Llama: a LlamaConfig and the fields that start with `memory_`.

Part of memedit, whose own configuration adds checks to it, and of the code that an exported model carries. It
needs transformers (5 or newer) and nothing else.
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

# What each value table has an entry of, and what makes a blank one.
_PER_TABLE = {"rows": int, "values": int, "owners": int, "query_dims": int, "owner_names": list}


class MemoryLlamaConfig(LlamaConfig):
    """Configuration of MemoryLlamaForCausalLM; the fields of LlamaConfig hold too.

    Attributes:
        memory_layers: indices of the blocks that carry a memory layer, ascending.
        memory_placement: "parallel" (beside the FFN, a retrofit) or "replace" (in its place, as pretrained).
        memory_num_keys: sub-keys per half, n; the table has n * n slots.
        memory_key_dim: width of a head's query, both halves together; even.
        memory_heads: look-ups per token and layer, each with its own sub-keys.
        memory_top_k: slots per head and token, at most min(memory_num_keys, 128).
        memory_value_dim: width of a slot's value; None = hidden_size.
        memory_query_window: how many tokens' hidden states a query sees; 1 = the paper's.
        memory_query_norm: "none"; "halves": halves and sub-keys are L2-normalised and a score is the sum of
            two cosines; "layer" or "batch": layer or batch normalisation of each head's query; "qk": query
            halves and sub-keys are RMS-normalised, each with a learned gain.
        memory_variant: "values": a slot is a value row; "peer": a slot is a single-neuron expert, an input
            row and a value row with an activation between.
        memory_temperature: factor on the scores before the softmax.
        memory_gated_output: output = W_o(bag * silu(W_g x)), "Memory+".
        memory_output_projection: output = W_o(bag); a gated output always has W_o.
        memory_shared_table: one value table for all memory layers instead of one each.
        memory_empty_base: the base table is all zeros, is not held in memory and not stored (a retrofit).
        memory_overlay_rows: written slots of the stored overlay, per table; kept by set_overlay.
        memory_overlay_values: distinct rows of the stored overlay, per table, 0 = one for each slot; kept by
            set_overlay.
        memory_overlay_owners: owners of the stored overlay, per table; kept by set_overlay.
        memory_overlay_query_dims: width of the queries that the stored overlay's discriminants look at, per
            table, 0 = it has none; kept by set_overlay.
        memory_overlay_owner_names: names of those owners, per table, or an empty list; kept by set_overlay.
        memory_write_position: where an edit writes: "subject", at a subject's last token, where a retrofit's
            routing tells subjects apart, or "answer", at the prompt's last token, where a routing that was
            trained on facts tells them apart.
        memory_bos_token_id: the token that memedit puts in front of every prompt; None = what the tokenizer
            names.
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
        self._complete_overlay()

    def _complete_overlay(self) -> None:
        """Give every value table its entries."""
        for name, blank in _PER_TABLE.items():
            given = list(getattr(self, f"memory_overlay_{name}"))
            entries = given or [blank() for _ in range(self.num_memory_tables)]
            setattr(self, f"memory_overlay_{name}", entries)

    @property
    def num_memory_tables(self) -> int:
        """How many value tables the model has: 0 without memory layers, 1 when shared, else one a layer."""
        return min(1, len(self.memory_layers)) if self.memory_shared_table else len(self.memory_layers)

    @property
    def num_slots(self) -> int:
        """Slots of one value table, n * n."""
        return self.memory_num_keys**2

    @property
    def has_output_projection(self) -> bool:
        """Whether the bag goes through W_o."""
        return self.memory_output_projection or self.memory_gated_output

    @property
    def value_dim(self) -> int:
        """Width of a slot's value."""
        return self.hidden_size if self.memory_value_dim is None else self.memory_value_dim
