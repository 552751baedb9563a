"""The configuration of a memory-layer Llama: a LlamaConfig and the fields that start with `memory_`.

transformers' own configs take unknown keys without a word, so a misspelt memory field would be ignored; here
it is refused with a suggestion, and every value is checked with an error that names field, value and
expectation. The fields themselves are those of the code that an exported model carries.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from memedit_kernels.product_key_topk import MAX_K

from memedit.modeling.portable import configuration_memory_llama as portable


class MemoryLlamaConfig(portable.MemoryLlamaConfig):
    """Configuration of MemoryLlamaForCausalLM, every value checked; its base class says what fields mean."""

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse unknown memory fields, then check every value."""
        refuse_unknown_memory_fields(kwargs)
        super().__post_init__(**kwargs)
        self.validate()

    def _complete_overlay(self) -> None:
        # The number of tables rests on fields that have to be right first.
        self._check_sizes()
        self._check_structure()
        super()._complete_overlay()
        self._check_overlay()

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
