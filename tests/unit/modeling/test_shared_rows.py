"""Written rows that slots share give what a row for each slot gives: forward, gradients and on disk."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import memedit.modeling.memory_table as memory_table
from memedit.modeling import Overlay, load_memory_llama, model_fingerprint

IDS = torch.arange(3, 63).view(4, 15) * 5 % 320


def shared_and_dense(overlay, num_values, seed=0):
    """Two overlays that say the same: one in which slots share rows, one with a row for each slot."""
    rows = torch.randint(0, num_values, (overlay.num_rows,), generator=torch.Generator().manual_seed(seed))
    values = overlay.values[:num_values]
    return replace(overlay, values=values, rows=rows), replace(overlay, values=values[rows])


@pytest.fixture(params=[True, False], ids=["empty base", "base table"])
def model(request, tiny_memory_llama):
    return tiny_memory_llama(
        memory_layers=[1, 2], memory_empty_base=request.param, memory_query_window=3
    ).requires_grad_(requires_grad=False)


def bags(model, overlay, slots, weights):
    model.set_overlay(0, overlay)
    return model.memory_tables()[0](slots, weights, weights[:, :0])


@pytest.mark.parametrize("num_tokens", [1, 7, 600])
@pytest.mark.parametrize("num_values", [1, 9])
def test_bags_are_those_of_a_row_for_each_slot(model, tiny_overlay, num_values, num_tokens):
    shared, dense = shared_and_dense(tiny_overlay(model, num_rows=60, threshold=0.15), num_values)
    with torch.no_grad():
        slots, weights, queries = model.memory_layers()[1].route(torch.randn(1, num_tokens, 48))
        # Each token must be treated alone: one that hits nothing stands beside those that do.
        slots[0] = 255 - shared.slots[:1]
        expected, found = bags(model, dense, slots, weights), bags(model, shared, slots, weights)
        assert torch.equal(bags(model, shared, slots, weights), found)
        table, looked_up = model.memory_tables()[0], []
        for overlay in (shared, dense):
            model.set_overlay(0, overlay)
            looked_up.append(table.look_up_overlay(slots, weights, queries))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(*looked_up, strict=True):
        assert torch.equal(ours, theirs)


def test_the_whole_model_says_the_same(model, tiny_overlay):
    shared, dense = shared_and_dense(tiny_overlay(model), 9)
    with torch.no_grad():
        model.set_overlay(0, None)
        base = model(IDS).logits
        model.set_overlay(0, dense)
        expected = model(IDS).logits
        model.set_overlay(0, shared)
        torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(base, expected, atol=1e-2)


def test_gradients_reach_shared_rows_and_the_routing(model, tiny_overlay):
    shared, dense = shared_and_dense(tiny_overlay(model, num_rows=60, threshold=0.15), 9)
    slots, weights, _ = model.memory_layers()[1].route(torch.randn(3, 25, 48))
    wanted = torch.randn(75, 48)
    gradients = []
    for overlay in (shared, dense):
        values = shared.values.clone().requires_grad_()
        routed = weights.clone().requires_grad_()
        held = values if overlay.rows is not None else values[shared.rows]
        (bags(model, replace(overlay, values=held), slots, routed) * wanted).sum().backward()
        gradients.append((values.grad, routed.grad))
    for ours, theirs in zip(*gradients, strict=True):
        assert float(theirs.abs().max()) > 0.1
        # Sums of at most 75 x 8 products of numbers around 1.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_tokens_that_hit_nothing_cost_no_gate(model, tiny_overlay, monkeypatch):
    shared, _ = shared_and_dense(tiny_overlay(model, num_rows=60, threshold=0.15), 9)
    others = torch.tensor(sorted(set(range(256)) - set(shared.slots.tolist())))
    slots = others[torch.randint(0, len(others), (50, 8))]
    weights = torch.full(slots.shape, 0.25)
    with torch.no_grad():
        expected = bags(model, None, slots, weights)
        seen = []
        gate = memory_table.ownership_gate

        def watched(owners, *rest):
            seen.append(len(owners))
            return gate(owners, *rest)

        monkeypatch.setattr(memory_table, "ownership_gate", watched)
        assert torch.equal(bags(model, shared, slots, weights), expected)
        assert seen == []
        slots[[3, 17], 0] = shared.slots[:2]
        found = bags(model, shared, slots, weights)
    assert seen == [2]
    assert torch.equal(found[4:17], expected[4:17])


def test_negative_slots_are_refused(model, tiny_overlay):
    shared, _ = shared_and_dense(tiny_overlay(model), 9)
    with pytest.raises(ValueError, match="slots"):
        bags(model, shared, torch.tensor([[-1] * 8]), torch.full((1, 8), 0.25))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_through_a_folder(model, tiny_overlay, tmp_path, dtype):
    before = model_fingerprint(model)
    shared, _ = shared_and_dense(tiny_overlay(model), 9)
    model.set_overlay(0, shared)
    assert model.config.memory_overlay_rows == [200]
    assert model.config.memory_overlay_values == [9]
    model.save_pretrained(tmp_path)
    loaded = load_memory_llama(tmp_path, dtype=dtype)
    found = loaded.overlay()
    for name in ("slots", "values", "owners", "thresholds", "rows"):
        assert torch.equal(getattr(found, name), getattr(shared, name))
    assert found.owner_names == shared.owner_names
    assert model_fingerprint(model) == before
    loaded.set_overlay(
        0, Overlay(shared.slots, shared.values_at(torch.arange(200)), shared.owners, shared.thresholds)
    )
    assert loaded.config.memory_overlay_values == [0]
    assert "model.memory_tables.0.overlay_rows" not in loaded.state_dict()


def test_a_folder_from_before_rows_were_shared_is_read(model, tiny_overlay, tmp_path):
    overlay = tiny_overlay(model)
    model.set_overlay(0, overlay)
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["memory_overlay_values"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    found = load_memory_llama(tmp_path).overlay()
    assert found.rows is None
    assert torch.equal(found.values, overlay.values)
