"""The model and the training of an edit on whichever kernels the process has, against the references."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fixtures_tiny import build_tiny_llama, separate_prefixes
from memedit_kernels.product_key_topk.reference import product_key_topk_reference
from memedit_kernels.slot_bag.reference import slot_bag_reference
from memedit_kernels.slot_gradient.reference import row_gradient_reference
from memedit_kernels.slot_rows.reference import slot_rows_reference
from memedit_kernels.slot_update.reference import adam_update_reference

from memedit.editing.frozen_blocks import FrozenBlocks
from memedit.editing.lessons import Lesson
from memedit.editing.output_path import OutputPath
from memedit.editing.row_states import memory_block
from memedit.editing.training import SharedVectors, TrainingSettings, train_delta


@pytest.fixture
def on_references(monkeypatch):
    """Call it: from then on the model and the training call the references, past the dispatcher."""

    def switch():
        def bag(slots, weights, *, base=None, overlay=None, dtype=torch.float32):
            given = (None,) * 4 if overlay is None else overlay[:4]
            heads = 1 if overlay is None else overlay.heads
            return slot_bag_reference(slots, weights, base, *given, heads, dtype)[0]

        def gradient(grad_output, slots, weights, selected):
            return row_gradient_reference(
                grad_output, slot_rows_reference(slots, selected), weights, len(selected)
            )

        def update(values, rows, grads, rule, state, state_rows=None):
            rates = (rule.learning_rate, rule.beta1, rule.beta2, rule.epsilon)
            return adam_update_reference(values, rows, grads, *state, state_rows, *rates)

        for module in ("memedit.editing.training", "memedit.modeling.memory_table"):
            monkeypatch.setattr(f"{module}.slot_bag", bag)
        monkeypatch.setattr("memedit.modeling.memory_layer.product_key_topk", product_key_topk_reference)
        monkeypatch.setattr("memedit.editing.training.slot_rows", slot_rows_reference)
        monkeypatch.setattr("memedit.editing.training.slot_gradient", gradient)
        monkeypatch.setattr("memedit.editing.training.row_gradient", row_gradient_reference)
        monkeypatch.setattr("memedit.editing.training.slot_update", update)

    return switch


@pytest.mark.parametrize("num_values", [None, 7])
@pytest.mark.parametrize("empty_base", [True, False])
def test_logits(tiny_memory_llama, tiny_overlay, on_references, empty_base, num_values):
    model = tiny_memory_llama(memory_empty_base=empty_base)
    overlay = tiny_overlay(model, num_rows=120, num_owners=3, threshold=0.1)
    if num_values is not None:
        rows = torch.randint(0, num_values, (120,))
        overlay = replace(overlay, values=overlay.values[:num_values], rows=rows)
    model.set_overlay(0, overlay)
    ids = torch.randint(3, 90, (2, 7))
    with torch.no_grad():
        found = model(input_ids=ids).logits
        on_references()
        torch.testing.assert_close(found, model(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def test_a_delta(tiny_memory_llama, on_references):
    llama = build_tiny_llama(num_hidden_layers=3)
    model = tiny_memory_llama(llama=llama, memory_empty_base=True).requires_grad_(requires_grad=False)
    output, blocks, lessons = OutputPath(memory_block(model)[1]), FrozenBlocks(model, 2), []
    for fact, answer in ((0, [40, 90]), (0, [40, 90]), (1, [50, 60, 90])):
        (prefix,) = separate_prefixes(blocks, torch.randn(1, 4, model.config.hidden_size), [3])
        slots = torch.tensor([[10 * fact, 10 * fact + 1, 70]]).repeat(len(answer), 1)
        weights = torch.tensor([[0.6, 0.4, 0.0]]).repeat(len(answer), 1)
        tail = torch.randn(len(answer), model.config.hidden_size)
        lessons.append(Lesson(fact, prefix, tail, slots, weights, torch.tensor(answer), 0))

    slots, owners, apart = (
        torch.tensor([0, 1, 10, 11]),
        torch.tensor([0, 0, 1, 1]),
        torch.zeros(4, dtype=torch.bool),
    )
    settings = TrainingSettings(max_epochs=4, learning_rate=2.0, margin=0.999999)

    def trained():
        rows = SharedVectors(slots, owners, apart, model.config.hidden_size, settings, 1.0)
        return train_delta(lessons, output, blocks, rows, num_facts=2, settings=settings, seed=0)

    found = trained()
    assert found.delta.dense().abs().max() > 0.1
    on_references()
    expected = trained()
    # Adam's first steps have the size of the rate whatever the gradient's, so rounding stays relative.
    torch.testing.assert_close(found.delta.dense(), expected.delta.dense(), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(
        torch.tensor(found.losses), torch.tensor(expected.losses), rtol=1e-2, atol=1e-3
    )
