"""Counts from the configuration against built models, torch's own FLOP counter and plain arithmetic."""

from __future__ import annotations

import pytest
import torch
from fixtures_tiny import build_tiny_llama
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import MixtralConfig, MixtralForCausalLM, Qwen2Config

from memedit.modeling.accounting import DENSE, EXPERTS, ROUTING, VALUES, model_account

CONTEXT = 12
MEMORY_FIELDS = {
    "parallel": {},
    "replaced": {"memory_placement": "replace", "memory_layers": [1, 2]},
    "tables of their own": {"memory_layers": [0, 2, 3], "memory_shared_table": False},
    "retrofit": {"memory_empty_base": True, "memory_query_window": 3},
    "gated": {"memory_gated_output": True, "memory_value_dim": 20, "memory_query_norm": "layer"},
    "projected": {"memory_output_projection": True, "memory_query_norm": "batch"},
    "experts": {"memory_variant": "peer", "memory_layers": [1, 3], "memory_query_norm": "qk"},
}


def num_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def counted(run):
    """FLOPs by torch's own count, which knows matrix products only."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


def dense_flops_a_token(model, context):
    """A forward over `context` tokens, without the rotary angles, which are a matrix product for torch."""
    ids = torch.arange(3, 3 + context)[None]
    rotary, hidden = model.model.rotary_emb, torch.zeros(1, context, 1)
    angles = counted(lambda: rotary(hidden, torch.arange(context)[None]))
    flops = counted(lambda: model(ids)) - angles
    assert flops % context == 0
    return flops // context


@pytest.mark.parametrize(
    "fields", [{}, {"tie_word_embeddings": False}, {"attention_bias": True}, {"mlp_bias": True}]
)
def test_dense_parameters_are_the_models(fields):
    model = build_tiny_llama(**fields)
    account = model_account(model.config, CONTEXT)
    assert account.parameters() == account.active_parameters() == num_parameters(model)
    assert account.part("embeddings").parameters == model.model.embed_tokens.weight.numel()
    tied = fields.get("tie_word_embeddings", True)
    assert account.part("head").parameters == (0 if tied else model.lm_head.weight.numel())


@pytest.mark.parametrize(
    "fields", [{}, {"head_dim": 20, "num_key_value_heads": 1}, {"tie_word_embeddings": False}]
)
@pytest.mark.parametrize("context", [1, CONTEXT])
def test_dense_flops_are_torchs(fields, context):
    model = build_tiny_llama(attn_implementation="eager", **fields)
    assert model_account(model.config, context).flops() == dense_flops_a_token(model, context)


@pytest.mark.parametrize("name", MEMORY_FIELDS)
def test_memory_parameters_are_the_models(tiny_memory_llama, name):
    model = tiny_memory_llama(**MEMORY_FIELDS[name])
    account = model_account(model.config, CONTEXT)
    assert account.parameters() == num_parameters(model)
    layers, tables = model.memory_layers().values(), model.memory_tables()
    assert account.parameters(ROUTING) == sum(map(num_parameters, layers))
    assert account.parameters(VALUES) == sum(map(num_parameters, tables))
    # 2 heads with k = 4 find at most 8 of the 256 slots in each layer.
    row = sum(tensor.shape[1] for tensor in tables[0].parameters())
    assert account.active_parameters(VALUES) == len(layers) * 8 * row
    assert account.active_parameters(DENSE) == account.parameters(DENSE)
    assert account.active_parameters(ROUTING) == account.parameters(ROUTING)


def plain_memory(memory, table, hidden):
    """A memory layer of window 1 in torch's own ops; returns its output and the pairs that were summed."""
    projection, heads, k = memory.query_projection, memory.heads, memory.top_k
    queries = functional.linear(hidden, projection.weight, projection.bias).view(len(hidden), heads, -1)
    queries, sub_keys = memory.norm(queries, memory.sub_keys)
    halves = queries.view(len(hidden), heads * 2, -1).transpose(0, 1)
    scores = torch.bmm(halves, sub_keys.flatten(0, 1).transpose(1, 2)).view(heads, 2, len(hidden), -1)
    best, keys = scores.topk(k)
    pairs = best[:, 0, :, :, None] + best[:, 1, :, None, :]
    slots = keys[:, 0, :, :, None] * scores.shape[-1] + keys[:, 1, :, None, :]
    sums, chosen = pairs.flatten(-2).topk(k)
    slots = slots.flatten(-2).gather(-1, chosen).transpose(0, 1).flatten(1)
    weights = torch.softmax(sums * memory.temperature, -1).transpose(0, 1).flatten(1)
    if table.inputs is not None:
        weights = weights * functional.gelu(torch.bmm(table.inputs[slots], hidden[:, :, None]).squeeze(-1))
    bag = torch.bmm(weights[:, None], table.values[slots]).squeeze(1)
    if memory.gate_projection is not None:
        bag = bag * functional.silu(memory.gate_projection(hidden))
    return bag if memory.output_projection is None else memory.output_projection(bag), pairs


@pytest.mark.parametrize("name", [name for name in MEMORY_FIELDS if name != "retrofit"])
def test_memory_flops_are_those_of_a_plain_forward(tiny_memory_llama, name):
    model = tiny_memory_llama(**MEMORY_FIELDS[name])
    hidden = torch.randn(7, model.config.hidden_size, generator=torch.Generator().manual_seed(2))
    flops = 0
    for index, memory in model.memory_layers().items():
        table = model.memory_tables()[model.model.layers[index].table_index]
        with torch.no_grad():
            found, pairs = plain_memory(memory, table, hidden)
            expected = memory(hidden[None], table, memory.route(hidden[None]))
        # What is counted is what the layer computes.
        torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-5)
        flops += (
            counted(lambda memory=memory, table=table: plain_memory(memory, table, hidden)) + pairs.numel()
        )
    account = model_account(model.config, CONTEXT)
    assert account.flops(ROUTING) + account.flops(VALUES) == flops / len(hidden)


def test_window_widens_the_query_alone(tiny_memory_llama):
    one, three = (
        model_account(tiny_memory_llama(memory_query_window=window).config, CONTEXT) for window in (1, 3)
    )
    # 2 more tokens of 48 numbers, into 2 heads of 16.
    assert three.flops() - one.flops() == 2 * 2 * 48 * 2 * 16
    assert three.part("sub_keys") == one.part("sub_keys")


def test_an_example_by_hand(tiny_memory_llama):
    # Blocks 1 and 2 of 4 have 2 heads that look up 4 of 16 x 16 slots, keys 16 wide, values 48 wide.
    model = tiny_memory_llama(memory_layers=[1, 2], memory_placement="replace")
    account = model_account(model.config, 10)
    flops = {part.name: part.flops for part in account.parts}
    assert flops == {
        "embeddings": 0,
        "attention": 4 * 2 * 48 * (48 + 24 + 24 + 48),
        "attention_context": 4 * 2 * (48 * 10 + 48 * 10),
        "ffn": 2 * 2 * 3 * 48 * 64,
        "query_projection": 2 * 2 * 48 * 32,
        "query_norm": 0,
        "sub_keys": 2 * 2 * (2 * 32 * 8 + 16),
        "output_path": 0,
        "values": 2 * 2 * 8 * 48,
        "norms": 0,
        "head": 2 * 320 * 48,
    }
    assert account.flops() == sum(flops.values())


def test_a_small_table_is_used_up(tiny_memory_llama):
    model = tiny_memory_llama(memory_layers=[1, 2], memory_num_keys=3, memory_top_k=3)
    account = model_account(model.config, 1)
    # 2 layers x 2 heads x 3 look-ups, but 9 rows.
    assert account.part("values").active_parameters == 9 * 48
    assert account.part("values").flops == 2 * 12 * 48


def test_experts_do_twice_the_work_on_rows(tiny_memory_llama):
    plain, experts = (
        model_account(tiny_memory_llama(memory_variant=variant).config, CONTEXT)
        for variant in ("values", "peer")
    )
    assert experts.flops(VALUES) == 2 * plain.flops(VALUES)
    assert experts.parameters(VALUES) == 2 * plain.parameters(VALUES)
    assert experts.flops(ROUTING) == plain.flops(ROUTING)


def tiny_mixture():
    config = MixtralConfig(
        vocab_size=320,
        hidden_size=48,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=5,
        num_experts_per_tok=2,
        sliding_window=None,
        attn_implementation="eager",
        experts_implementation="eager",
    )
    return MixtralForCausalLM(config).eval()


def test_mixture_of_experts_is_counted():
    model = tiny_mixture()
    account = model_account(model.config, CONTEXT)
    assert account.parameters() == num_parameters(model)
    assert account.active_parameters(EXPERTS) * 5 == account.parameters(EXPERTS) * 2
    assert account.flops() == dense_flops_a_token(model, CONTEXT)


def test_sliding_window_bounds_the_context():
    config = tiny_mixture().config
    config.sliding_window = 4
    assert model_account(config, 100).part("attention_context") == model_account(config, 4).part(
        "attention_context"
    )


def test_unknown_parts_have_no_account(tiny_llama):
    with pytest.raises(KeyError, match="experts"):
        model_account(tiny_llama.config, 1).part("experts")


@pytest.mark.parametrize("context", [0, -1, 2.0, True])
def test_context_is_checked(tiny_llama, context):
    with pytest.raises(ValueError, match=rf"context: got {context!r}, expected an integer of at least 1"):
        model_account(tiny_llama.config, context)


def test_other_models_are_refused():
    with pytest.raises(
        ValueError, match="got a model of type 'qwen2', expected llama, memory_llama or mixtral"
    ):
        model_account(Qwen2Config(), 1)
