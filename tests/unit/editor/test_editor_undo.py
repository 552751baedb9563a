"""Undo and redo are exact: the model is always base plus the active patches, composed afresh."""

from __future__ import annotations

import pytest
import torch

from memedit.editor.overlays import composed_overlay
from memedit.errors import FingerprintMismatch, StoreError
from memedit.store import Store


def test_undoing_the_last_edit_gives_the_logits_back(work, editor, world, look):
    states = [(look.logits(editor.model), look.overlay(editor.model))]
    for index in range(2):
        work.inject(editor, world.new_facts()[index])
        states.append((look.logits(editor.model), look.overlay(editor.model)))
    for logits, overlay in reversed(states[:-1]):
        assert not torch.equal(look.logits(editor.model), logits)
        assert editor.undo().active is False
        assert torch.equal(look.logits(editor.model), logits)
        assert look.overlay(editor.model) == overlay
    for logits, overlay in states[1:]:
        editor.redo()
        assert torch.equal(look.logits(editor.model), logits)
        assert look.overlay(editor.model) == overlay


def test_undoing_a_middle_edit_composes_the_rest_afresh(work, three_edits, editor, look):
    everything = look.overlay(editor.model)
    editor.undo(three_edits[1].id)
    first, _, third = (editor.store.patch(edit.id) for edit in three_edits)
    left = look.overlay(editor.model)
    editor.model.set_overlay(0, composed_overlay(editor.model, [first, third]))
    assert look.overlay(editor.model) == left
    fresh = work.open()
    assert look.overlay(fresh.model) == left
    assert torch.equal(look.logits(fresh.model), look.logits(editor.model))
    editor.redo(three_edits[1].id)
    assert look.overlay(editor.model) == everything


def test_overlapping_patches_are_summed(three_edits, editor):
    first, second = (editor.store.patch(edit.id).tables[0] for edit in three_edits[:2])
    shared = sorted(set(first.slots.tolist()) & set(second.slots.tolist()))
    assert shared, "the two edits of one subject were expected to share slots"
    overlay = editor.model.overlay()
    for slot in shared:
        row = overlay.values_at((overlay.slots == slot).nonzero()[:, 0])[0]
        parts = [torch.from_numpy(table.dense_delta()[table.slots == slot][0]) for table in (first, second)]
        assert torch.equal(row, parts[0] + parts[1])


def test_the_dense_weights_never_change(three_edits, editor, world, look):
    editor.undo(three_edits[0].id)
    with editor.without(three_edits[1].id):
        pass
    assert look.dense(editor.model) == look.dense(world.opened_world().model)


def test_undo_with_nothing_to_undo(editor, look):
    before = look.overlay(editor.model)
    for refused in (editor.undo, editor.redo, lambda: editor.undo("e0009")):
        with pytest.raises(StoreError):
            refused()
    assert look.overlay(editor.model) == before is None


def test_a_store_of_another_model_is_refused(work, editor, world):
    with pytest.raises(FingerprintMismatch, match="0123abcd"):
        Store.open(work.path, fingerprint="0123abcd")


def test_another_process_edits_are_seen_by_the_next_injection(work, editor, world, look):
    other = work.open()
    work.inject(other, world.new_facts()[0])
    assert editor.model.overlay() is None
    work.inject(editor, world.new_facts()[1])
    assert look.overlay(editor.model) == look.overlay(work.open().model)
    assert set(editor.model.overlay().owner_names) == {fact.subject for fact in world.new_facts()[:2]}
