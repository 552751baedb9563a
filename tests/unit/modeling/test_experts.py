"""Memory layers whose slots are single-neuron experts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from memedit.modeling import load_memory_llama


@pytest.mark.parametrize("placement", ["parallel", "replace"])
def test_experts_equal_loops(tiny_memory_llama, placement):
    model = tiny_memory_llama(memory_variant="peer", memory_placement=placement)
    memory, (table,) = model.memory_layers()[1], model.memory_tables()
    hidden = torch.randn(2, 5, 48)
    with torch.no_grad():
        routing = memory.route(hidden)
        found = memory(hidden, table, routing).flatten(0, 1)
        for token, vector in enumerate(hidden.flatten(0, 1)):
            expected = torch.zeros(48)
            for slot, weight in zip(routing.slots[token], routing.weights[token], strict=True):
                expected += weight * functional.gelu(vector @ table.inputs[slot]) * table.values[slot]
            torch.testing.assert_close(found[token], expected, rtol=1e-4, atol=1e-6)


def test_experts_come_back_from_a_folder(tiny_memory_llama, tmp_path):
    model = tiny_memory_llama(memory_variant="peer", memory_query_norm="qk")
    model.save_pretrained(tmp_path)
    loaded = load_memory_llama(tmp_path)
    assert torch.equal(loaded.memory_tables()[0].inputs, model.memory_tables()[0].inputs)
    ids = torch.arange(3, 12)[None]
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_experts_take_no_written_rows(tiny_memory_llama, tiny_overlay):
    model = tiny_memory_llama(memory_variant="peer")
    with pytest.raises(ValueError, match='memory_variant "peer"'):
        model.set_overlay(0, tiny_overlay(model))


def test_values_have_no_input_rows(tiny_memory_llama):
    (table,) = tiny_memory_llama().memory_tables()
    with pytest.raises(ValueError, match='got "values", expected "peer"'):
        table.input_dots(torch.randn(2, 48), torch.zeros(2, 4, dtype=torch.int64))
