"""Provenance: what is heard at which token, and how it is led back to edits, subjects and facts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from memedit.editor.provenance import Spoken, listening, trace
from memedit.modeling import prompt_ids
from memedit.store import Owner, Patch, TablePatch


def patch(slots, owners, names, scale=1.0):
    """A patch of width 2 whose rows all have the norm `scale`."""
    delta = np.full((len(slots), 2), scale / 2**0.5, np.float32)
    table = TablePatch(np.array(slots, np.int64), delta, np.array(owners, np.int64))
    return Patch((table,), tuple(Owner(name, 0.25, (f"{name}-fact",)) for name in names))


def spoken(slots, weights, *, subject="A", mass=0.5, position=0):
    return Spoken(position, 0, subject, mass, 0.25, tuple(slots), tuple(weights))


def shares(sources):
    return {(source.edit_id, source.subject): pytest.approx(source.share) for source in sources}


def test_what_one_edit_wrote_is_all_its_own():
    (source,) = trace([spoken((3, 5), (0.5, 0.5))], {"e1": patch([3, 5, 9], [0, 0, 1], "AB")})
    assert (source.edit_id, source.subject, source.fact_ids) == ("e1", "A", ("A-fact",))
    assert source.share == pytest.approx(1)


def test_tokens_count_by_their_mass():
    heard = [
        spoken((3,), (1.0,), mass=0.6, position=4),
        spoken((9,), (1.0,), mass=0.2, subject="B", position=7),
    ]
    sources = trace(heard, {"e1": patch([3, 5, 9], [0, 0, 1], "AB")})
    assert shares(sources) == {("e1", "A"): 0.75, ("e1", "B"): 0.25}
    assert [source.subject for source in sources] == ["A", "B"]
    assert sources[1].spoken == (heard[1],)


def test_a_slot_of_two_edits_is_shared_out_by_what_each_added():
    patches = {"e1": patch([3], [0], "A", scale=3.0), "e2": patch([2, 3], [1, 0], "AB", scale=1.0)}
    sources = trace([spoken((3,), (1.0,))], patches)
    assert shares(sources) == {("e1", "A"): 0.75, ("e2", "A"): 0.25}


def test_what_a_later_edit_added_for_another_subject_is_said_so():
    patches = {"e1": patch([3], [0], "A"), "e2": patch([3], [0], "B")}
    assert shares(trace([spoken((3,), (1.0,))], patches)) == {("e1", "A"): 0.5, ("e2", "B"): 0.5}


def test_rows_that_are_still_zero_count_alike():
    patches = {"e1": patch([3], [0], "A", scale=0.0), "e2": patch([3], [0], "A", scale=0.0)}
    assert shares(trace([spoken((3,), (1.0,))], patches)) == {("e1", "A"): 0.5, ("e2", "A"): 0.5}


def test_slots_that_no_edit_wrote_for_a_subject_have_no_source():
    assert trace([spoken((4,), (1.0,))], {"e1": patch([3], [0], "A")}) == ()
    assert trace([spoken((3,), (1.0,))], {"e1": patch([3], [-1], "A")}) == ()
    assert trace([], {"e1": patch([3], [0], "A")}) == ()


def test_the_loudest_token_is_the_one_with_most_mass():
    heard = [spoken((3,), (1.0,), mass=mass, position=position) for position, mass in enumerate((0.3, 0.7))]
    (source,) = trace(heard, {"e1": patch([3], [0], "A")})
    assert (source.loudest.position, source.loudest.mass) == (1, 0.7)
    assert [item.position for item in source.spoken] == [0, 1]


@pytest.fixture
def model(tiny_memory_llama, tiny_overlay):
    """A tiny model with random written rows, some of them without an owner."""
    made = tiny_memory_llama(memory_empty_base=True).eval()
    made.set_overlay(0, tiny_overlay(made, threshold=0.3))
    return made


def by_hand(model, ids):
    """Open gates of a text by a loop over tokens and look-ups."""
    seen = []
    layer = model.memory_layers()[1]
    handle = layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]))
    handle.remove()
    (_, _, (slots, weights, _)) = seen[0]
    overlay, found = model.overlay(), []
    row_of = {int(slot): row for row, slot in enumerate(overlay.slots)}
    for position, (token_slots, token_weights) in enumerate(
        zip(slots.tolist(), weights.tolist(), strict=True)
    ):
        mass = {}
        for slot, weight in zip(token_slots, token_weights, strict=True):
            owner = int(overlay.owners[row_of[slot]]) if slot in row_of else -1
            if owner >= 0:
                mass[owner] = mass.get(owner, 0.0) + weight / 2
        best = max(mass, key=mass.get, default=None)
        if best is not None and mass[best] >= 0.3:
            found.append((position, best, pytest.approx(mass[best], abs=1e-5)))
    return found


def test_hears_every_open_gate_of_prompt_and_answer_and_no_other(model, tiny_tokenizer):
    from memedit.evaluation import generate_answers

    prompt = "The capital of France is the city of"
    with listening(model) as heard:
        (generation,) = generate_answers(model, tiny_tokenizer, [prompt], max_new_tokens=6)
    ids = [*prompt_ids(tiny_tokenizer, model.config, prompt), *generation.token_ids[:-1]]
    expected = by_hand(model, ids)
    assert expected
    assert len(expected) < len(ids)
    assert [(item.position, item.owner, item.mass) for item in heard] == expected
    for item in heard:
        assert item.subject == f"subject {item.owner}"
        assert item.threshold == pytest.approx(0.3)
        assert sum(item.weights) == pytest.approx(1)
        owners = model.overlay().owners[torch.isin(model.overlay().slots, torch.tensor(item.slots))]
        assert set(owners.tolist()) == {item.owner}


def test_rows_without_an_owner_and_closed_gates_are_not_heard(model, tiny_tokenizer):
    ids = torch.tensor([prompt_ids(tiny_tokenizer, model.config, "The capital of Spain is")])
    worn = model.overlay()
    for silent in (
        replace(worn, owners=torch.full_like(worn.owners, -1)),
        replace(worn, thresholds=torch.full_like(worn.thresholds, 1.1)),
        None,
    ):
        model.set_overlay(0, silent)
        with torch.no_grad(), listening(model) as heard:
            model(input_ids=ids)
        assert heard == []


def test_nobody_listens_after_an_error(model):
    with pytest.raises(KeyboardInterrupt), listening(model):
        raise KeyboardInterrupt
    assert not any(layer._forward_pre_hooks for layer in model.memory_layers().values())
