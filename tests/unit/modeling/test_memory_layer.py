"""The memory layer, its windows and its table against loops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from memedit.modeling import Overlay, gated_look_ups, load_memory_llama, query_windows
from memedit.modeling.memory_table import agrees


def looped_windows(hidden, window, first):
    batch, time, _ = hidden.shape
    rows = []
    for row in range(batch):
        for position in range(time):
            sources = [min(position, max(position - back, first[row])) for back in range(window)]
            rows.append(torch.cat([hidden[row, source] for source in sources]))
    return torch.stack(rows).view(batch, time, -1)


@pytest.mark.parametrize("window", [1, 3, 6])
def test_windows_clamp_at_the_first_real_token(window):
    hidden, first = torch.randn(3, 7, 5), [0, 2, 6]
    expected = looped_windows(hidden, window, first)
    assert torch.equal(query_windows(hidden, window, first_position=torch.tensor(first)), expected)
    last = query_windows(hidden, window, first_position=torch.tensor(first), num_new=2)
    assert torch.equal(last, expected[:, -2:])
    assert torch.equal(query_windows(hidden, window), looped_windows(hidden, window, [0, 0, 0]))


def looped_norm(layer, query, keys, head):
    """One head's query [2, half] and keys [2, n, half], normalised from the definition."""
    norm, half = layer.norm, len(query) // 2
    if norm.kind == "layer":
        unit = (query - query.mean()) / (query.var(correction=0) + norm.layer.eps).sqrt()
        query = unit * norm.layer.weight.double() + norm.layer.bias.double()
    elif norm.kind == "batch":
        at = slice(head * len(query), (head + 1) * len(query))
        mean, var, weight, bias = (
            part.double()[at]
            for part in (
                norm.batch.running_mean, norm.batch.running_var, norm.batch.weight, norm.batch.bias
            )
        )  # fmt: skip
        query = (query - mean) / (var + norm.batch.eps).sqrt() * weight + bias
    query = query.view(2, half)
    if norm.kind == "halves":
        return query / query.norm(dim=-1, keepdim=True), keys / keys.norm(dim=-1, keepdim=True)
    if norm.kind == "qk":
        epsilon = torch.finfo(torch.float32).eps
        query = query / (query.square().mean(-1, keepdim=True) + epsilon).sqrt()
        keys = keys / (keys.square().mean(-1, keepdim=True) + epsilon).sqrt()
        query, keys = query * norm.query_gain[head].double(), keys * norm.key_gain[head, :, None].double()
    return query, keys


def looped_routing(layer, windows):
    """Slots, weights and query of one token, head by head, from every one of the n * n scores."""
    slots, weights, scored = [], [], []
    queries = (
        windows.double() @ layer.query_projection.weight.double().T + layer.query_projection.bias.double()
    )
    num_keys = layer.sub_keys.shape[2]
    for head, query in enumerate(queries.view(layer.heads, -1)):
        query, keys = looped_norm(layer, query, layer.sub_keys[head].double(), head)
        scored.append(query.flatten())
        scores = {
            i * num_keys + j: float(query[0] @ keys[0, i] + query[1] @ keys[1, j])
            for i in range(num_keys)
            for j in range(num_keys)
        }
        best = sorted(scores, key=lambda slot: -scores[slot])[: layer.top_k]
        powers = [math.exp(layer.temperature * (scores[slot] - scores[best[0]])) for slot in best]
        slots += best
        weights += [power / sum(powers) for power in powers]
    return torch.tensor(slots), torch.tensor(weights), torch.cat(scored)


@pytest.mark.parametrize("norm", ["none", "halves", "layer", "batch", "qk"])
@pytest.mark.parametrize("window", [1, 4])
def test_routing_equals_brute_force(tiny_memory_llama, norm, window):
    model = tiny_memory_llama(memory_query_norm=norm, memory_query_window=window, memory_temperature=3.0)
    layer = model.memory_layers()[1]
    hidden = torch.randn(2, 5, 48)
    with torch.no_grad():
        slots, weights, queries = layer.route(hidden)
        windows = looped_windows(hidden, window, [0, 0]).flatten(0, 1)
        for token in range(10):
            expected_slots, expected_weights, expected_query = looped_routing(layer, windows[token])
            assert slots[token].tolist() == expected_slots.tolist()
            torch.testing.assert_close(weights[token], expected_weights.float(), rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(queries[token], expected_query.float(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights.view(10, 2, 4).sum(-1), torch.ones(10, 2))


def looped_agreement(overlay, owner, query):
    if overlay.discriminants is None:
        return True
    *direction, offset = overlay.discriminants[owner].tolist()
    return math.fsum(one * other for one, other in zip(query.tolist(), direction, strict=True)) + offset >= 0


def looped_bag(table, overlay, slots, weights, queries, heads):
    """The bag of every token from its definition."""
    output = torch.zeros(len(slots), table.value_dim, dtype=torch.float64)
    row_of = {slot: row for row, slot in enumerate(overlay.slots.tolist())} if overlay else {}
    for token in range(len(slots)):
        owned = {}
        for slot, weight in zip(slots[token].tolist(), weights[token].tolist(), strict=True):
            if table.values is not None:
                output[token] += weight * table.values[slot].double()
            if slot in row_of:
                owner = int(overlay.owners[row_of[slot]])
                value = weight * overlay.values[row_of[slot]].double()
                if owner < 0:
                    output[token] += value
                elif looped_agreement(overlay, owner, queries[token]):
                    total, bag = owned.get(owner, (0.0, 0.0))
                    owned[owner] = (total + weight, bag + value)
        if owned:
            best = max(owned, key=lambda owner: (owned[owner][0], -owner))
            total, bag = owned[best]
            if total / heads >= float(overlay.thresholds[best]):
                output[token] += bag / total
    return output


@pytest.mark.parametrize("written", [None, "gates", "discriminants"])
@pytest.mark.parametrize("empty_base", [False, True])
def test_table_equals_brute_force(tiny_memory_llama, tiny_overlay, written, empty_base):
    model = tiny_memory_llama(memory_empty_base=empty_base)
    overlay = tiny_overlay(model, num_rows=60, threshold=0.15) if written else None
    if written == "discriminants":
        overlay = replace(overlay, discriminants=random_discriminants(model))
    model.set_overlay(0, overlay)
    table = model.memory_tables()[0]
    assert table.is_silent(reads_written=True) == (empty_base and not written)
    assert table.is_silent(reads_written=False) == empty_base
    with torch.no_grad():
        slots, weights, queries = model.memory_layers()[1].route(torch.randn(4, 25, 48))
        output = table(slots, weights, queries)
        expected = looped_bag(table, overlay, slots, weights, queries, heads=2)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-6)
    if written:
        found = table.look_up_overlay(slots, weights, queries)
        is_open = (found.best_owner >= 0) & (found.mass >= 0.15)
        assert 0 < int(is_open.sum()) < len(slots), "the case must have open and closed gates"
    if written == "discriminants":
        gated_alone = replace(overlay, discriminants=None)
        plain = gated_look_ups(gated_alone, slots, weights, queries, heads=2)
        # Some tokens turn to another owner than the one with the most mass, others to nobody.
        turned = (plain.best_owner != found.best_owner) & (plain.best_owner >= 0)
        assert (turned & (found.best_owner >= 0)).any()
        assert (turned & (found.best_owner < 0)).any()
        some = found.best_owner >= 0
        assert agrees(overlay.discriminants, found.best_owner[some], queries[some]).all()


def random_discriminants(model, num_owners=5):
    """Some of each kind: owner 0 has none, the others random ones that half of all queries agree with."""
    generator = torch.Generator().manual_seed(3)
    found = torch.randn(num_owners, 2 * model.config.memory_key_dim + 1, generator=generator).half().float()
    found[0] = 0.0
    found[:, -1] *= 0.1
    return found


def test_discriminants_of_another_width_are_refused(tiny_memory_llama, tiny_overlay):
    model = tiny_memory_llama()
    wrong = replace(tiny_overlay(model), discriminants=torch.zeros(5, 7))
    with pytest.raises(ValueError, match=r"^overlay\.discriminants: got width 7, expected "):
        model.set_overlay(0, wrong)


def test_discriminants_come_back_from_a_folder(tiny_memory_llama, tiny_overlay, tmp_path):
    model = tiny_memory_llama(memory_empty_base=True)
    overlay = replace(tiny_overlay(model), discriminants=random_discriminants(model))
    model.set_overlay(0, overlay)
    model.save_pretrained(tmp_path)
    loaded = load_memory_llama(tmp_path, dtype=torch.bfloat16)
    assert torch.equal(loaded.overlay().discriminants, overlay.discriminants)
    assert loaded.config.memory_overlay_query_dims == [overlay.discriminants.shape[1] - 1]
    loaded.set_overlay(0, tiny_overlay(model))
    assert loaded.config.memory_overlay_query_dims == [0]
    assert loaded.overlay().discriminants is None


def test_gated_output_path(tiny_memory_llama):
    model = tiny_memory_llama(memory_gated_output=True, memory_value_dim=20)
    layer, table = model.memory_layers()[1], model.memory_tables()[0]
    hidden = torch.randn(2, 3, 48)
    with torch.no_grad():
        routing = layer.route(hidden)
        output = layer(hidden, table, routing)
        bag = table(*routing).view(2, 3, 20)
        opened = torch.nn.functional.silu(layer.gate_projection(hidden))
        torch.testing.assert_close(output, layer.output_projection(bag * opened))
    assert output.shape == (2, 3, 48)


def test_initialisation_follows_the_paper(tiny_memory_llama):
    model = tiny_memory_llama(memory_num_keys=32)
    keys, values = model.memory_layers()[1].sub_keys.detach(), model.memory_tables()[0].values.detach()
    assert float(keys.abs().max()) <= 16**-0.5
    assert float(keys.std()) == pytest.approx(16**-0.5 / 3**0.5, rel=0.1)
    assert float(values.std()) == pytest.approx(48**-0.5, rel=0.05)


def test_overlay_that_does_not_fit_is_refused(tiny_memory_llama):
    model = tiny_memory_llama()
    good = {"owners": torch.tensor([-1]), "thresholds": torch.zeros(0)}
    with pytest.raises(ValueError, match="slot 256, expected below 256"):
        model.set_overlay(0, Overlay(slots=torch.tensor([256]), values=torch.zeros(1, 48), **good))
    with pytest.raises(ValueError, match="width 47, expected 48"):
        model.set_overlay(0, Overlay(slots=torch.tensor([1]), values=torch.zeros(1, 47), **good))
    with pytest.raises(ValueError, match="table_index: got 1"):
        model.set_overlay(1, None)
