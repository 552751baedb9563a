"""The configuration of a memory-layer Llama: a LlamaConfig and the fields that start with `memory_`.

transformers' own configs take unknown keys without a word, so a misspelt memory field would be ignored; here
it is refused with a suggestion, and every value is checked with an error that names field, value and
expectation.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from memedit_kernels.product_key_topk import MAX_K
from transformers import LlamaConfig

PLACEMENTS = ("parallel", "replace")
QUERY_NORMS = ("none", "halves", "layer", "batch", "qk")
VARIANTS = ("values", "peer")
WRITE_POSITIONS = ("subject", "answer")


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
        """Refuse unknown memory fields, then check every value."""
        refuse_unknown_memory_fields(kwargs)
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        self._check_sizes()
        self._check_structure()
        self._check_overlay()
        self.validate()

    @property
    def num_memory_tables(self) -> int:
        """How many value tables the model has: 0 without memory layers, 1 when shared, else one a layer."""
        return min(1, len(self.memory_layers)) if self.memory_shared_table else len(self.memory_layers)

    @property
    def num_slots(self) -> int:
        """Slots of one value table, n * n."""
        return self.memory_num_keys**2

    @property
    def value_dim(self) -> int:
        """Width of a slot's value."""
        return self.hidden_size if self.memory_value_dim is None else self.memory_value_dim

    @property
    def has_output_projection(self) -> bool:
        """Whether the bag goes through W_o."""
        return self.memory_output_projection or self.memory_gated_output

    def _check_sizes(self) -> None:
        for name in ("num_keys", "key_dim", "heads", "top_k", "query_window"):
            _check_count(f"memory_{name}", getattr(self, f"memory_{name}"), minimum=1)
        if self.memory_value_dim is not None:
            _check_count("memory_value_dim", self.memory_value_dim, minimum=1)
        if self.memory_bos_token_id is not None:
            _check_count("memory_bos_token_id", self.memory_bos_token_id, minimum=0)
        if self.memory_key_dim % 2:
            raise _wrong("memory_key_dim", self.memory_key_dim, "an even number: a query has two halves")
        if self.memory_top_k > min(self.memory_num_keys, MAX_K):
            raise _wrong(
                "memory_top_k",
                self.memory_top_k,
                f"at most min(memory_num_keys, {MAX_K}) = {min(self.memory_num_keys, MAX_K)}",
            )
        temperature = self.memory_temperature
        if isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
            raise _wrong("memory_temperature", temperature, "a positive number")
        if not (math.isfinite(temperature) and temperature > 0):
            raise _wrong("memory_temperature", temperature, "a positive number")

    def _check_structure(self) -> None:
        _check_choice("memory_placement", self.memory_placement, PLACEMENTS)
        _check_choice("memory_query_norm", self.memory_query_norm, QUERY_NORMS)
        _check_choice("memory_variant", self.memory_variant, VARIANTS)
        _check_choice("memory_write_position", self.memory_write_position, WRITE_POSITIONS)
        for name in ("gated_output", "output_projection", "shared_table", "empty_base"):
            if not isinstance(getattr(self, f"memory_{name}"), bool):
                raise _wrong(f"memory_{name}", getattr(self, f"memory_{name}"), "true or false")
        _check_counts("memory_layers", self.memory_layers)
        ordered = sorted(set(self.memory_layers)) == list(self.memory_layers)
        if not ordered or (self.memory_layers and self.memory_layers[-1] >= self.num_hidden_layers):
            raise _wrong(
                "memory_layers",
                self.memory_layers,
                f"ascending block indices, each once, from 0 to {self.num_hidden_layers - 1}",
            )
        if self.value_dim != self.hidden_size and not self.has_output_projection:
            raise _wrong(
                "memory_value_dim",
                self.memory_value_dim,
                f"hidden_size ({self.hidden_size}), unless memory_output_projection or memory_gated_output "
                "is set",
            )
        if self.memory_empty_base and (self.memory_placement == "replace" or self.has_output_projection):
            raise _wrong(
                "memory_empty_base",
                self.memory_empty_base,
                'false with memory_placement "replace", an output projection or a gated output: an empty '
                "table must leave the block as it was",
            )
        if self.memory_variant == "peer" and self.memory_empty_base:
            raise _wrong("memory_empty_base", self.memory_empty_base, 'false with memory_variant "peer"')

    def _check_overlay(self) -> None:
        num_tables = self.num_memory_tables
        self.memory_overlay_rows = list(self.memory_overlay_rows) or [0] * num_tables
        self.memory_overlay_values = list(self.memory_overlay_values) or [0] * num_tables
        self.memory_overlay_owners = list(self.memory_overlay_owners) or [0] * num_tables
        self.memory_overlay_query_dims = list(self.memory_overlay_query_dims) or [0] * num_tables
        self.memory_overlay_owner_names = list(self.memory_overlay_owner_names) or [
            [] for _ in range(num_tables)
        ]
        for name in ("rows", "values", "owners", "query_dims", "owner_names"):
            got = getattr(self, f"memory_overlay_{name}")
            if len(got) != num_tables:
                raise _wrong(
                    f"memory_overlay_{name}", got, f"one entry for each of {num_tables} value tables"
                )
        _check_counts("memory_overlay_rows", self.memory_overlay_rows)
        _check_counts("memory_overlay_values", self.memory_overlay_values)
        _check_counts("memory_overlay_owners", self.memory_overlay_owners)
        _check_counts("memory_overlay_query_dims", self.memory_overlay_query_dims)


def refuse_unknown_memory_fields(given: Mapping[str, Any]) -> None:
    """Raise ValueError with a suggestion when a key starts with "memory" and is not a field."""
    known = [f.name for f in fields(MemoryLlamaConfig) if f.name.startswith("memory_")]
    for key in given:
        if key.startswith("memory") and key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
            raise ValueError(f"unknown field {key}: {hint}")


def _wrong(name: str, got: object, expected: str) -> ValueError:
    return ValueError(f"{name}: got {got!r}, expected {expected}")


def _check_count(name: str, got: object, minimum: int) -> None:
    if isinstance(got, bool) or not isinstance(got, int) or got < minimum:
        raise _wrong(name, got, f"an integer of at least {minimum}")


def _check_counts(name: str, got: object) -> None:
    counts = isinstance(got, (list, tuple)) and all(
        isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in got
    )
    if not counts:
        raise _wrong(name, got, "a list of integers of at least 0")


def _check_choice(name: str, got: object, choices: tuple[str, ...]) -> None:
    if got not in choices:
        raise _wrong(name, got, f"one of {', '.join(choices)}")
