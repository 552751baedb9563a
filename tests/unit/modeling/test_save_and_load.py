"""Saving and loading gives the same bits, and a folder that does not match is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from memedit.modeling import MemoryLlamaForCausalLM, load_memory_llama, model_fingerprint

IDS = torch.arange(3, 63).view(4, 15) * 5 % 320

SHAPES = {
    "retrofit": {"memory_empty_base": True, "memory_query_window": 4, "memory_query_norm": "halves"},
    "two tables": {"memory_layers": [0, 3], "memory_shared_table": False},
    "shared, gated, replacing": {
        "memory_layers": [1, 2],
        "memory_placement": "replace",
        "memory_gated_output": True,
        "memory_value_dim": 20,
    },
}


def same_bits(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype, name
        assert torch.equal(first[name], second[name]), name


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def model(request, tiny_memory_llama):
    return tiny_memory_llama(**request.param)


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip(model, tiny_overlay, tmp_path, written, dtype):
    if dtype == torch.bfloat16:
        model.save_pretrained(tmp_path / "fp32")
        model = load_memory_llama(tmp_path / "fp32", dtype=dtype)
    if written:
        for index in range(len(model.memory_tables())):
            model.set_overlay(
                index, tiny_overlay(model, seed=index, num_rows=30 + index, num_owners=2 + index)
            )
    model.save_pretrained(tmp_path / "saved")
    for loaded in (
        load_memory_llama(tmp_path / "saved"),
        AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval(),
    ):
        assert type(loaded) is MemoryLlamaForCausalLM
        same_bits(model, loaded)
        with torch.no_grad():
            assert torch.equal(model(IDS).logits, loaded(IDS).logits)
        assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
        for index in range(len(model.memory_tables())):
            before, after = model.overlay(index), loaded.overlay(index)
            assert (before is None) == (after is None) == (not written)
            if before is not None:
                assert before.owner_names == after.owner_names


def test_routing_and_written_rows_stay_fp32(tiny_memory_llama, tiny_overlay, tmp_path):
    model = tiny_memory_llama(memory_query_window=3)
    model.set_overlay(0, tiny_overlay(model))
    model.save_pretrained(tmp_path)
    loaded = load_memory_llama(tmp_path, dtype=torch.bfloat16)
    layer, table = loaded.memory_layers()[1], loaded.memory_tables()[0]
    assert loaded.model.layers[0].mlp.up_proj.weight.dtype == table.values.dtype == torch.bfloat16
    assert layer.sub_keys.dtype == layer.query_projection.weight.dtype == torch.float32
    assert torch.equal(layer.query_projection.weight, model.memory_layers()[1].query_projection.weight)
    assert torch.equal(table.overlay_values, model.memory_tables()[0].overlay_values)


def test_empty_base_and_absent_overlay_are_not_stored(tiny_memory_llama, tiny_overlay, tmp_path):
    model = tiny_memory_llama(memory_empty_base=True)
    model.save_pretrained(tmp_path / "unwritten")
    names = load_file(tmp_path / "unwritten" / "model.safetensors").keys()
    assert not [name for name in names if "memory_tables" in name]
    model.set_overlay(0, tiny_overlay(model, num_rows=9))
    model.save_pretrained(tmp_path / "written")
    stored = load_file(tmp_path / "written" / "model.safetensors")
    assert stored["model.memory_tables.0.overlay_values"].shape == (9, 48)
    assert not [name for name in stored if name.endswith("memory_tables.0.values")]


def test_overlay_of_ungated_rows_only(tiny_memory_llama, tiny_overlay, tmp_path):
    model = tiny_memory_llama(memory_empty_base=True)
    model.set_overlay(0, tiny_overlay(model, num_rows=9, num_owners=0))
    model.save_pretrained(tmp_path)
    same_bits(model, load_memory_llama(tmp_path))


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda weights: weights.pop("model.layers.1.memory.sub_keys"), "missing keys: .*sub_keys"),
        (lambda weights: weights.pop("model.memory_tables.0.overlay_slots"), "missing keys: .*overlay_slots"),
        (
            lambda weights: weights.update({"model.surprise": torch.zeros(2)}),
            "unexpected keys: model.surprise",
        ),
        (
            lambda weights: weights.update({"model.memory_tables.0.overlay_values": torch.zeros(3, 48)}),
            "mismatched keys: .*overlay_values",
        ),
    ],
    ids=["missing routing", "missing overlay", "unexpected", "other shape"],
)
def test_weights_that_do_not_match_are_refused(tiny_memory_llama, tiny_overlay, tmp_path, change, told):
    model = tiny_memory_llama()
    model.set_overlay(0, tiny_overlay(model))
    model.save_pretrained(tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(ValueError, match=told):
        load_memory_llama(tmp_path)


def test_other_folders_are_refused(tiny_llama, tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_memory_llama(tmp_path)
    tiny_llama.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="of type 'llama', expected 'memory_llama'"):
        load_memory_llama(tmp_path)


def test_misspelt_field_in_a_stored_configuration(tiny_memory_llama, tmp_path):
    tiny_memory_llama().save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["memory_querywindow"] = 4
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="did you mean memory_query_window"):
        load_memory_llama(tmp_path)


def test_fingerprint_knows_the_base_and_not_the_overlay(tiny_memory_llama, tiny_overlay, tmp_path):
    model = tiny_memory_llama(memory_query_window=3)
    print_before = model_fingerprint(model)
    assert len(print_before) == 64
    model.set_overlay(0, tiny_overlay(model))
    assert model_fingerprint(model) == print_before
    model.save_pretrained(tmp_path)
    assert model_fingerprint(load_memory_llama(tmp_path)) == print_before
    assert model_fingerprint(tiny_memory_llama(memory_query_window=3)) == print_before


@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.layers.1.memory.sub_keys", "model.memory_tables.0.values"]
)
def test_fingerprint_sees_one_bit(tiny_memory_llama, name):
    model = tiny_memory_llama()
    before = model_fingerprint(model)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[-1].view(torch.int32).bitwise_xor_(1)
    assert model_fingerprint(model) != before


@pytest.mark.parametrize(
    "field", [{"memory_temperature": 3.0}, {"memory_layers": [2]}, {"memory_query_norm": "halves"}]
)
def test_fingerprint_sees_the_configuration(tiny_memory_llama, field):
    assert model_fingerprint(tiny_memory_llama(**field)) != model_fingerprint(tiny_memory_llama())
