"""Edits where rows are not added as they are: several memory layers, a shared table, a gated output."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from memedit.editing import training
from memedit.editing.frozen_blocks import FrozenBlocks
from memedit.editing.lessons import make_lessons
from memedit.editing.output_path import OutputPath
from memedit.editing.row_states import memory_block, row_states
from memedit.editing.rows import teaching_rows
from memedit.editing.training import SharedVectors, TrainingSettings

SHAPES = {
    "gated, shared": {"memory_layers": [0, 2], "memory_gated_output": True, "memory_value_dim": 24},
    "projected, in place of FFNs": {
        "memory_layers": [1, 2],
        "memory_output_projection": True,
        "memory_placement": "replace",
        "memory_query_window": 3,
    },
    "a table each": {"memory_layers": [0, 1, 2], "memory_shared_table": False, "memory_query_window": 3},
    "plain": {"memory_layers": [2]},
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def model(request, tiny_memory_llama):
    """A memory-layer Llama whose last memory layer is at block 2 of 4."""
    return tiny_memory_llama(**request.param).requires_grad_(requires_grad=False)


@pytest.fixture
def rows(model, make_fact, tiny_tokenizer):
    """Rows of two facts."""
    facts = [make_fact("Zorvan Elm", "Oslo"), make_fact("Tor", "the city of Bern")]
    return teaching_rows(
        facts, tiny_tokenizer, model.config, seed=0, num_contexts=1, num_questions=1, num_decoys=0
    ).rows


def chance_loss(model, rows):
    """What the model itself loses on the answers of rows, each alone: the mean over answer tokens."""
    losses = []
    for row in rows:
        ids = torch.tensor([row.encoded.ids])
        logits = model(input_ids=ids).logits[0, row.encoded.num_prompt - 1 : -1]
        answer = torch.tensor(row.encoded.answer_ids)
        losses.append(functional.cross_entropy(logits[: len(answer)], answer, reduction="none"))
    return torch.cat(losses).mean()


def test_a_training_step_has_the_gradient_of_the_model(model, rows, tiny_overlay, monkeypatch):
    """What a step hands to the optimizer is what autograd says of the whole model with these rows written."""
    overlay = tiny_overlay(model, num_rows=250, num_owners=3, threshold=0.3)
    layer, memory = memory_block(model)
    blocks = FrozenBlocks(model, layer + 1)
    lessons = make_lessons(rows, row_states(model, rows), blocks, overlay, overlay.slots, memory)
    assert len(lessons) == len(rows)
    each = torch.arange(len(overlay.slots))
    vectors = SharedVectors(
        overlay.slots, each, torch.zeros(len(each), dtype=torch.bool), model.config.value_dim,
        TrainingSettings(), 1.0,
    )  # fmt: skip
    taken = []
    monkeypatch.setattr(
        SharedVectors, "step", lambda self, read, gradient, rate: taken.append((read, gradient))
    )
    losses = training._step(lessons, OutputPath(memory), blocks, vectors, 0.1)

    leaf = overlay.values.clone().requires_grad_()
    model.set_overlay(
        model.edited_table, type(overlay)(overlay.slots, leaf, overlay.owners, overlay.thresholds)
    )
    loss = chance_loss(model, rows)
    loss.backward()
    torch.testing.assert_close(torch.cat(losses).mean(), loss.detach(), rtol=1e-3, atol=1e-4)
    ((read, gradient),) = taken
    expected = torch.zeros_like(leaf)
    expected[read] = gradient
    torch.testing.assert_close(expected, leaf.grad, rtol=1e-3, atol=1e-5)
    assert float(leaf.grad.abs().max()) > 1e-4


def test_written_rows_speak_at_the_last_layer_alone(model, tiny_overlay):
    """Everything below, and the routing of the layer that reads them, is as it was without them."""
    ids = torch.arange(3, 14)[None]
    seen = {}
    last = model.edited_layer
    for index, memory in model.memory_layers().items():
        memory.register_forward_pre_hook(lambda _, args, at=index: seen.setdefault(at, []).append(args))
    with torch.no_grad():
        before = model(ids).logits
        model.set_overlay(model.edited_table, tiny_overlay(model))
        after = model(ids).logits
    for index in model.memory_layers():
        (plain, _, routed), (worn, _, again) = seen[index]
        assert torch.equal(plain, worn), index
        assert torch.equal(routed.slots, again.slots)
    assert last == max(seen)
    assert not torch.equal(before, after)


def test_the_gain_is_how_much_larger_rows_come_out(model):
    memory = memory_block(model)[1]
    output = OutputPath(memory)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(40, model.config.hidden_size, generator=generator)
    gates = memory.output_gates(hidden)
    rows = torch.randn(4000, 1, model.config.value_dim, generator=generator)
    with torch.no_grad():
        out = output(rows.expand(-1, 40, -1), gates, torch.float32)
    found = float(out.square().mean().sqrt() / rows.square().mean().sqrt())
    assert output.gain([] if gates is None else list(gates)) == pytest.approx(found, rel=0.03)
