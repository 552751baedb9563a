"""A converted lingua checkpoint computes what the checkpoint computes, by an oracle in double precision.

The oracle (tests/lingua_checkpoints.py) shares no code with memedit. Converted models run in fp32 on the same
stored bits, so that only rounding is between the two.
"""

from __future__ import annotations

import json
import math

import pytest
import torch
from lingua_checkpoints import (
    Layout,
    lingua_greedy,
    lingua_logits,
    lingua_params,
    lingua_weights,
    wrapped_name,
    write_checkpoint,
)
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from memedit.modeling import MemoryLlamaForCausalLM, load_memory_llama, model_fingerprint
from memedit.modeling.lingua import tensors
from memedit.modeling.lingua.conversion import convert_lingua

LAYOUTS = {
    "one memory layer": Layout(),
    "grouped queries, a table over three layers": Layout(n_layers=5, n_kv_heads=2, memory=(0, 2, 4)),
    "narrow gated values": Layout(mem_v_dim=20, memory=(1, 3), n_kv_heads=1),
    "heads narrower than dim / heads": Layout(head_dim=6, n_kv_heads=2),
    "odd sizes, wide heads": Layout(
        dim=45,
        n_heads=3,
        head_dim=18,
        n_kv_heads=1,
        vocab_size=101,
        ffn_dim_multiplier=1.3,
        multiple_of=7,
        mem_heads=3,
        mem_k_dim=6,
        mem_n_keys=11,
        mem_knn=5,
        mem_v_dim=37,
    ),
    "bf16, tied, other RoPE and epsilon": Layout(
        dtype=torch.bfloat16,
        weight_tying=True,
        rope_theta=500_000.0,
        norm_eps=1e-2,
        memory=(1, 2),
        n_kv_heads=2,
    ),
    "a table each, no projection": Layout(memory=(0, 3), mem_share_values=False, swilu_projection=False),
    "projected without gate, no FFN left": Layout(
        n_layers=2, memory=(0, 1), swilu_projection=False, mem_v_dim=30
    ),
}
IDS = torch.arange(40).view(2, 20) * 31 % 97


def tolerance(layout, expected):
    """Rounding of fp32: a sum of n products is off by some sqrt(n) units, and a block has ten such steps."""
    longest = max(layout.dim, layout.hidden, layout.n_heads * layout.width, layout.value_dim)
    steps = 10 * layout.n_layers + 2
    return 2**-23 * math.sqrt(longest) * steps * float(expected.abs().max())


def off_by(model, weights, layout):
    """How far the model's logits are from the checkpoint's, in tolerances."""
    expected = lingua_logits(weights, layout, IDS)
    with torch.no_grad():
        got = model(IDS).logits.double()
    return float((got - expected).abs().max()) / tolerance(layout, expected)


def converted(tmp_path, layout, weights=None, params=None, **how):
    weights = lingua_weights(layout) if weights is None else weights
    write_checkpoint(tmp_path / "checkpoint", weights, params or lingua_params(layout), **how)
    convert_lingua(tmp_path / "checkpoint", tmp_path / "out")
    return load_memory_llama(tmp_path / "out", dtype=torch.float32)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain names", "wrapped names"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_logits_are_the_checkpoints(tmp_path, layout, wrapped):
    weights = lingua_weights(layout)
    given = {wrapped_name(name): weight for name, weight in weights.items()} if wrapped else weights
    model = converted(tmp_path, layout, given, nested=not wrapped)
    assert off_by(model, weights, layout) < 1
    assert model.config.memory_placement == "replace"
    assert model.config.num_memory_tables == (1 if layout.mem_share_values else len(layout.memory))
    by_auto = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    assert type(by_auto) is MemoryLlamaForCausalLM
    with torch.no_grad():
        assert torch.equal(by_auto(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_greedy_generation_is_the_checkpoints(tmp_path, layout):
    weights = lingua_weights(layout)
    model = converted(tmp_path, layout, weights)
    expected = lingua_greedy(weights, layout, IDS[:1, :6], num_new=12)
    mask = torch.ones_like(IDS[:1, :6])
    got = model.generate(IDS[:1, :6], attention_mask=mask, do_sample=False, max_new_tokens=12)
    assert got.tolist() == expected.tolist()
    assert len(set(expected[0, 6:].tolist())) > 3, "a continuation of one token shows little"


def test_without_the_permutation_it_would_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "to_rotate_half", lambda weight, num_heads: weight)
    layout = LAYOUTS["grouped queries, a table over three layers"]
    assert off_by(converted(tmp_path, layout), lingua_weights(layout), layout) > 100


def swap(first, second):
    first.data, second.data = second.data.clone(), first.data.clone()


MUTATIONS = {
    "keys of heads": lambda model, memory: memory.sub_keys.data.copy_(memory.sub_keys.flip(0)),
    "halves of keys": lambda model, memory: memory.sub_keys.data.copy_(memory.sub_keys.flip(1)),
    "slots transposed": lambda model, memory: model.memory_tables()[0].values.data.copy_(
        model.memory_tables()[0].values.view(9, 9, -1).transpose(0, 1).reshape(81, -1)
    ),
    "gate and up": lambda model, memory: swap(
        model.model.layers[0].mlp.gate_proj.weight, model.model.layers[0].mlp.up_proj.weight
    ),
    "gate's bias": lambda model, memory: memory.gate_projection.bias.data.zero_(),
    "projection's bias": lambda model, memory: memory.output_projection.bias.data.zero_(),
    "query's bias": lambda model, memory: memory.query_projection.bias.data.zero_(),
    "norms": lambda model, memory: swap(
        model.model.layers[0].input_layernorm.weight, model.model.layers[0].post_attention_layernorm.weight
    ),
    "RoPE of keys only": lambda model, memory: model.model.layers[2].self_attn.k_proj.weight.data.copy_(
        tensors.to_rotate_half(model.model.layers[2].self_attn.k_proj.weight, 2)
    ),
}


@pytest.mark.parametrize("mutate", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_the_oracle_sees_every_part(tmp_path, mutate):
    layout = Layout(memory=(1, 3), n_kv_heads=2)
    model, weights = converted(tmp_path, layout), lingua_weights(layout)
    assert off_by(model, weights, layout) < 1
    with torch.no_grad():
        mutate(model, model.memory_layers()[1])
    assert off_by(model, weights, layout) > 100


@pytest.mark.parametrize("change", [{"rope_theta": 9000.0}, {"norm_eps": 1e-2}, {"mem_knn": 4}])
def test_arguments_that_no_weight_tells_count(tmp_path, change):
    layout = Layout()
    params = lingua_params(layout)
    (params["productkey_args"] if "mem_knn" in change else params).update(change)
    assert off_by(converted(tmp_path, layout, params=params), lingua_weights(layout), layout) > 100


def test_types_are_kept_and_routing_is_fp32(tmp_path):
    layout = LAYOUTS["bf16, tied, other RoPE and epsilon"]
    weights = lingua_weights(layout)
    write_checkpoint(tmp_path / "checkpoint", weights, lingua_params(layout))
    convert_lingua(tmp_path / "checkpoint", tmp_path / "out")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    routing = {name for name in stored if "sub_keys" in name or "query_projection" in name}
    assert {str(stored[name].dtype) for name in routing} == {"torch.float32"}
    assert {str(stored[name].dtype) for name in stored.keys() - routing} == {"torch.bfloat16"}
    assert torch.equal(stored["model.memory_tables.0.values"], weights["layers.1.feed_forward.values.weight"])
    loaded = load_memory_llama(tmp_path / "out")
    assert loaded.dtype == torch.bfloat16
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    loaded.save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert stored.keys() == again.keys()
    assert [name for name in stored if not torch.equal(stored[name], again[name])] == []
    assert model_fingerprint(load_memory_llama(tmp_path / "again")) == model_fingerprint(loaded)


def test_mixed_types_lose_nothing(tmp_path):
    layout = Layout()
    weights = lingua_weights(layout)
    weights["layers.1.feed_forward.values.weight"] = weights["layers.1.feed_forward.values.weight"].bfloat16()
    write_checkpoint(tmp_path / "checkpoint", weights, lingua_params(layout))
    convert_lingua(tmp_path / "checkpoint", tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as stored:
        assert stored.get_tensor("model.memory_tables.0.values").dtype == torch.bfloat16
    model = load_memory_llama(tmp_path / "out")
    assert model.dtype == torch.float32
    assert off_by(model, weights, layout) < 1


@pytest.mark.parametrize("stored", ["one storage", "copies", "first layer only"])
def test_a_shared_table_is_stored_once(tmp_path, stored):
    layout = Layout(n_layers=5, memory=(0, 2, 4))
    weights = lingua_weights(layout)
    plain = dict(weights)
    if stored == "copies":
        for layer in (2, 4):
            weights[f"layers.{layer}.feed_forward.values.weight"] = plain[
                "layers.0.feed_forward.values.weight"
            ].clone()
    elif stored == "first layer only":
        for layer in (2, 4):
            del weights[f"layers.{layer}.feed_forward.values.weight"]
    model = converted(tmp_path, layout, weights)
    assert off_by(model, plain, layout) < 1
    names = load_file(tmp_path / "out" / "model.safetensors").keys()
    assert [name for name in names if "memory_tables" in name] == ["model.memory_tables.0.values"]


def test_separate_tables_that_params_ask_for(tmp_path):
    layout = Layout(memory=(0, 2), mem_share_values=False)
    weights = lingua_weights(layout)
    model = converted(tmp_path, layout, weights)
    for index, layer in enumerate((0, 2)):
        expected = weights[f"layers.{layer}.feed_forward.values.weight"]
        assert torch.equal(model.memory_tables()[index].values, expected)


def test_a_tied_output_that_is_stored_too(tmp_path):
    layout = Layout(weight_tying=True)
    weights = lingua_weights(layout)
    given = {**weights, "output.weight": weights["tok_embeddings.weight"].clone()}
    assert off_by(converted(tmp_path, layout, given), weights, layout) < 1


def test_an_output_of_the_embeddings_storage_is_tied(tmp_path):
    layout = Layout(weight_tying=True)
    weights, params = lingua_weights(layout), lingua_params(layout)
    del params["weight_tying"]
    model = converted(
        tmp_path, layout, {**weights, "output.weight": weights["tok_embeddings.weight"]}, params
    )
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert off_by(model, weights, layout) < 1


def test_what_params_leave_out_comes_from_the_shapes(tmp_path):
    layout = Layout(n_kv_heads=2, ffn_dim_multiplier=1.3, mem_v_dim=20, memory=(1, 2))
    params = {"n_heads": 4, "productkey_args": {"mem_knn": layout.mem_knn}}
    model = converted(tmp_path, layout, params=params, nested=False)
    assert off_by(model, lingua_weights(layout), layout) < 1
    config = model.config
    sizes = (config.memory_heads, config.memory_key_dim, config.memory_num_keys, config.memory_value_dim)
    assert sizes == (layout.mem_heads, layout.mem_k_dim, layout.mem_n_keys, 20)
    assert (config.memory_layers, config.intermediate_size) == ([1, 2], layout.hidden)


def test_no_tokenizer_no_special_tokens(tmp_path):
    model = converted(tmp_path, Layout())
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (
        None,
        None,
        None,
    )
    assert model.config.max_position_embeddings == 64
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [
        "MemoryLlamaForCausalLM"
    ]
