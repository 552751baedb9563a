"""Memory fields are checked, and survive JSON."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from memedit.modeling import MemoryLlamaConfig

SMALL = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 100}


def test_defaults_are_a_plain_llama():
    config = MemoryLlamaConfig()
    assert config.model_type == "memory_llama"
    assert config.memory_layers == []
    assert config.num_memory_tables == 0


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("memory_topk", "memory_top_k"),
        ("memory_num_heads", "memory_heads"),
        ("memory_layer", "memory_layers"),
        ("memorytemperature", "memory_temperature"),
    ],
)
def test_misspelt_field_gets_a_suggestion(key, suggestion):
    with pytest.raises(ValueError, match=f"unknown field {key}: did you mean {suggestion}"):
        MemoryLlamaConfig(**{key: 1})


def test_unknown_field_without_likeness_lists_the_fields():
    with pytest.raises(ValueError, match="expected one of memory_layers"):
        MemoryLlamaConfig(memory_xyzzyqqqqqqqqqqqq=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_layers", [4]),
        ("memory_layers", [2, 1]),
        ("memory_layers", [1, 1]),
        ("memory_layers", [-1]),
        ("memory_layers", 3),
        ("memory_placement", "beside"),
        ("memory_num_keys", 0),
        ("memory_num_keys", 2.0),
        ("memory_key_dim", 7),
        ("memory_heads", True),
        ("memory_heads", "4"),
        ("memory_top_k", 17),
        ("memory_value_dim", 0),
        ("memory_value_dim", 32),
        ("memory_query_window", 0),
        ("memory_query_norm", "instance"),
        ("memory_variant", "moe"),
        ("memory_temperature", 0.0),
        ("memory_temperature", float("nan")),
        ("memory_temperature", "20"),
        ("memory_gated_output", 1),
        ("memory_overlay_rows", [3, 4]),
        ("memory_overlay_values", [1, 1]),
        ("memory_overlay_values", [-1]),
        ("memory_overlay_owners", [-1]),
        ("memory_bos_token_id", -1),
    ],
)
def test_bad_value_names_field_and_value(field, value):
    fields = {"memory_layers": [1], "memory_num_keys": 16, **SMALL, field: value}
    with pytest.raises(ValueError, match=f"^{field}: got .*, expected ") as caught:
        MemoryLlamaConfig(**fields)
    assert repr(value) in str(caught.value)


def test_top_k_is_bounded_by_the_kernels_whatever_the_number_of_keys():
    assert MemoryLlamaConfig(memory_num_keys=512, memory_top_k=128).memory_top_k == 128
    with pytest.raises(ValueError, match=r"^memory_top_k: got 129, expected at most .* = 128"):
        MemoryLlamaConfig(memory_num_keys=512, memory_top_k=129)


@pytest.mark.parametrize("clash", [{"memory_placement": "replace"}, {"memory_output_projection": True}])
def test_empty_base_must_leave_the_block_alone(clash):
    with pytest.raises(ValueError, match=r"^memory_empty_base"):
        MemoryLlamaConfig(memory_layers=[1], memory_empty_base=True, **clash, **SMALL)


def test_llama_checks_still_run():
    with pytest.raises(Exception, match="not a multiple of the number of attention"):
        MemoryLlamaConfig(hidden_size=50, num_attention_heads=4)


@pytest.mark.parametrize(
    ("shared", "layers", "tables"), [(True, [0, 2], 1), (False, [0, 2], 2), (True, [], 0)]
)
def test_number_of_tables(shared, layers, tables):
    config = MemoryLlamaConfig(memory_layers=layers, memory_shared_table=shared, **SMALL)
    assert config.num_memory_tables == tables
    assert config.memory_overlay_rows == [0] * tables


def test_json_round_trip(tmp_path):
    config = MemoryLlamaConfig(
        memory_layers=[1, 3],
        memory_placement="replace",
        memory_value_dim=24,
        memory_gated_output=True,
        memory_shared_table=False,
        memory_query_window=3,
        memory_query_norm="halves",
        memory_temperature=20,
        memory_overlay_rows=[5, 0],
        memory_overlay_values=[3, 0],
        memory_overlay_owners=[2, 0],
        memory_overlay_owner_names=[["a", "b"], []],
        memory_bos_token_id=0,
        **SMALL,
    )
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, MemoryLlamaConfig)
    written, read = config.to_dict(), loaded.to_dict()
    assert {key for key in written if written[key] != read.get(key)} <= {"_name_or_path"}
    assert loaded.value_dim == 24
    assert loaded.has_output_projection
