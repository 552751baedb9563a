"""Row states are what the model itself computes: hidden states and routing, whatever a row is padded with."""

from __future__ import annotations

import pytest
import torch

from memedit.editing.row_states import SubjectRouting, memory_block, route_subjects, row_states
from memedit.editing.rows import teaching_rows
from memedit.errors import UsageError

SHAPES = {
    "window 1": {"memory_query_window": 1, "memory_empty_base": True},
    "window 5": {"memory_query_window": 5, "memory_empty_base": True},
    "base rows beside an FFN": {},
    "base rows in place of an FFN": {"memory_placement": "replace", "memory_write_position": "answer"},
    "two layers, one table, gated": {
        "memory_layers": [0, 2],
        "memory_gated_output": True,
        "memory_value_dim": 24,
    },
    "two layers, a table each, long window": {
        "memory_layers": [1, 2],
        "memory_shared_table": False,
        "memory_query_window": 4,
        "memory_placement": "replace",
    },
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def model(request, tiny_memory_llama):
    """A memory-layer Llama with nothing written."""
    return tiny_memory_llama(**{"memory_layers": [2], "memory_query_norm": "halves", **request.param})


@pytest.fixture
def rows(model, make_fact, tiny_tokenizer):
    """Rows of unequal lengths."""
    facts = [make_fact("Zorvan Elm", "Oslo"), make_fact("Tor", "the city of Bern")]
    return teaching_rows(
        facts, tiny_tokenizer, model.config, seed=0, num_contexts=2, num_questions=2, num_decoys=2
    )


@torch.no_grad()
def as_the_model_does(model, ids):
    """Block output and routing of one unpadded row, from hooks in a real forward."""
    layer, memory = memory_block(model)
    seen = {}
    block = model.model.layers[layer]
    handles = [
        block.register_forward_hook(lambda _, __, output: seen.update(hidden=output[0])),
        block.post_attention_layernorm.register_forward_hook(
            lambda _, __, output: seen.update(inputs=output)
        ),
    ]
    try:
        model(input_ids=torch.tensor([list(ids)]))
    finally:
        for handle in handles:
            handle.remove()
    return seen["hidden"], *memory.route(seen["inputs"])


def test_row_states_equal_the_models(model, rows):
    for row, state in zip(rows.rows, row_states(model, rows.rows), strict=True):
        hidden, slots, weights, queries = as_the_model_does(model, row.encoded.ids[:-1])
        assert len(state.hidden) == len(row.encoded.ids) - 1
        torch.testing.assert_close(state.hidden, hidden, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(state.queries.float(), queries, rtol=1e-3, atol=1e-3)
        same = state.slots == slots
        # Rounding in another batch may swap slots of equal score, and nothing else.
        assert same.float().mean() > 0.99
        torch.testing.assert_close(state.weights[same], weights[same], rtol=1e-3, atol=1e-4)


def test_subjects_are_routed_as_in_the_whole_row(model, rows):
    for part in (rows.rows, rows.decoys):
        alone = route_subjects(model, part)
        states = [(row.subject_last, state) for row, state in zip(part, row_states(model, part), strict=True)]
        whole = SubjectRouting(
            torch.tensor([row.owner for row in part]),
            *(
                torch.stack([getattr(state, name)[last] for last, state in states])
                for name in ("slots", "weights", "queries")
            ),
        )
        assert torch.equal(whole.owners, alone.owners)
        assert whole.owners.tolist() == [row.owner for row in part]
        same = whole.slots == alone.slots
        assert same.float().mean() > 0.99
        torch.testing.assert_close(whole.weights[same], alone.weights[same], rtol=1e-3, atol=1e-4)


def test_an_overlay_makes_no_difference(model, rows, tiny_overlay):
    plain = row_states(model, rows.rows)
    model.set_overlay(model.edited_table, tiny_overlay(model))
    for before, after in zip(plain, row_states(model, rows.rows), strict=True):
        assert torch.equal(before.hidden, after.hidden)
        assert torch.equal(before.slots, after.slots)


def test_no_decoys_route_to_nothing(model):
    routing = route_subjects(model, [])
    assert (len(routing.owners), tuple(routing.slots.shape)) == (0, (0, 8))
    assert routing.owners.dtype == torch.int64


def test_edits_write_to_the_last_memory_layer(tiny_memory_llama):
    model = tiny_memory_llama(memory_layers=[0, 2])
    assert memory_block(model) == (2, model.memory_layers()[2])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"memory_layers": []}, "has no memory layer"),
        ({"memory_variant": "peer"}, 'has memory_variant "peer"'),
    ],
)
def test_models_that_edits_cannot_write_to_are_refused(tiny_memory_llama, fields, told):
    with pytest.raises(UsageError, match=told):
        memory_block(tiny_memory_llama(**fields))
