"""The whole model: what it adds to a plain Llama, and what reaches the written rows."""

from __future__ import annotations

import pytest
import torch

from memedit.modeling import Overlay, from_llama

IDS = torch.arange(3, 63).view(4, 15) * 5 % 320


def test_retrofit_without_a_written_row_is_the_base_to_the_bit(tiny_llama, tiny_memory_llama):
    model = tiny_memory_llama(llama=tiny_llama, memory_empty_base=True, memory_query_window=4)
    mask = torch.ones_like(IDS)
    mask[0, :5] = 0
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, tiny_llama(IDS).logits)
        expected = tiny_llama(IDS, attention_mask=mask).logits
        assert torch.equal(model(IDS, attention_mask=mask).logits, expected)


def test_overlay_of_zeros_and_its_removal_leave_the_logits(tiny_llama, tiny_memory_llama, tiny_overlay):
    model = tiny_memory_llama(llama=tiny_llama, memory_empty_base=True)
    with torch.no_grad():
        base = tiny_llama(IDS).logits
        model.set_overlay(0, tiny_overlay(model))
        assert not torch.equal(model(IDS).logits, base)
        model.set_overlay(0, tiny_overlay(model, scale=0.0))
        assert torch.equal(model(IDS).logits, base)
        model.set_overlay(0, None)
        assert torch.equal(model(IDS).logits, base)
    assert model.overlay() is None
    assert model.config.memory_overlay_rows == [0]


def test_dense_weights_are_shared(tiny_llama, tiny_memory_llama):
    model = tiny_memory_llama(llama=tiny_llama, memory_layers=[0, 3])
    dense = dict(tiny_llama.named_parameters())
    shared = {name: parameter for name, parameter in model.named_parameters() if "memory" not in name}
    assert shared.keys() == dense.keys()
    assert all(shared[name] is dense[name] for name in dense)
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("placement", ["parallel", "replace"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_block_adds_its_memory(tiny_llama, tiny_memory_llama, tiny_overlay, placement, gated, shared):
    model = tiny_memory_llama(
        llama=tiny_llama,
        memory_layers=[1, 2],
        memory_placement=placement,
        memory_gated_output=gated,
        memory_shared_table=shared,
        memory_query_window=3,
    )
    tables = model.memory_tables()
    assert len(tables) == (1 if shared else 2)
    for index in range(len(tables)):
        model.set_overlay(index, tiny_overlay(model, seed=index))
    block = model.model.layers[2]
    assert (block.mlp is None) == (placement == "replace")
    seen = {}
    block.register_forward_hook(lambda module, args, output: seen.update(output=output))
    block.self_attn.register_forward_hook(lambda module, args, output: seen.update(attention=output[0]))
    block.register_forward_pre_hook(lambda module, args: seen.update(hidden=args[0]))
    with torch.no_grad():
        model(IDS)
        residual = seen["hidden"] + seen["attention"]
        normalised = block.post_attention_layernorm(residual)
        memory = model.memory_layers()[2]
        expected = (
            residual if placement == "replace" else residual + tiny_llama.model.layers[2].mlp(normalised)
        )
        expected = expected + memory(normalised, tables[-1], memory.route(normalised))
    assert torch.equal(seen["output"], expected)


def test_no_memory_layers_is_a_plain_llama(tiny_llama):
    model = from_llama(tiny_llama)
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, tiny_llama(IDS).logits)


def test_gradients_reach_the_written_rows_and_only_what_asks(tiny_memory_llama, tiny_overlay):
    model = tiny_memory_llama(memory_layers=[1, 2], memory_empty_base=True, memory_query_window=3)
    model.requires_grad_(requires_grad=False)
    fixed = tiny_overlay(model)
    delta = torch.zeros_like(fixed.values, requires_grad=True)
    model.set_overlay(0, Overlay(fixed.slots, fixed.values + delta, fixed.owners, fixed.thresholds))
    loss = model(IDS, labels=IDS).loss
    loss.backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    row = int(delta.grad.abs().sum(dim=1).argmax())
    column = int(delta.grad[row].abs().argmax())
    step = 1e-2
    nudged = []
    for sign in (1, -1):
        values = fixed.values.clone()
        values[row, column] += sign * step
        model.set_overlay(0, Overlay(fixed.slots, values, fixed.owners, fixed.thresholds))
        with torch.no_grad():
            nudged.append(float(model(IDS, labels=IDS).loss))
    assert float(delta.grad[row, column]) == pytest.approx((nudged[0] - nudged[1]) / (2 * step), rel=0.05)


def test_training_the_whole_model_reaches_the_routing(tiny_memory_llama):
    model = tiny_memory_llama(memory_placement="replace", memory_query_window=3).train()
    model(IDS, labels=IDS).loss.backward()
    layer = model.memory_layers()[1]
    for parameter in (layer.sub_keys, layer.query_projection.weight):
        assert parameter.grad is not None
        assert float(parameter.grad.abs().sum()) > 0
    # The base values never change: only an overlay is trained.
    assert model.memory_tables()[0].values.grad is None


def test_hidden_states_and_gradient_checkpointing(tiny_memory_llama):
    model = tiny_memory_llama(memory_query_window=3)
    assert len(model(IDS, output_hidden_states=True).hidden_states) == 5
    model.train()
    expected = model(IDS, labels=IDS, use_cache=False).loss
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    loss = model(IDS, labels=IDS, use_cache=False).loss
    assert torch.equal(loss, expected)
    loss.backward()
    assert model.memory_layers()[1].sub_keys.grad is not None


def test_overlay_comes_back_as_it_was_set(tiny_memory_llama, tiny_overlay):
    model = tiny_memory_llama(memory_layers=[1, 2], memory_shared_table=False)
    overlay = tiny_overlay(model, num_rows=7, num_owners=3)
    model.set_overlay(1, overlay)
    assert model.overlay(0) is None
    found = model.overlay(1)
    for name in ("slots", "values", "owners", "thresholds"):
        assert getattr(found, name) is getattr(overlay, name)
    assert found.owner_names == overlay.owner_names
    assert model.config.memory_overlay_rows == [0, 7]
    assert model.config.memory_overlay_owners == [0, 3]


def test_misspelt_memory_field(tiny_llama):
    with pytest.raises(ValueError, match="did you mean memory_layers"):
        from_llama(tiny_llama, memory_layer=[1])
