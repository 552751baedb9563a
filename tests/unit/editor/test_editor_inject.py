"""What an injection does: it teaches, touches its own slots only, and says honestly what it did."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from memedit.errors import FactsError, StoreError
from memedit.store import encode_patch


@pytest.fixture
def facts(world):
    """Five facts about lands that the model has never heard of."""
    return world.new_facts()[:5]


def statuses(edit):
    return [outcome.status for outcome in edit.outcomes]


def test_facts_are_taught_and_dense_weights_stay(work, editor, facts, look):
    dense, before = look.dense(editor.model), look.logits(editor.model)
    edit = work.inject(editor, *facts)
    assert edit.committed
    assert edit.report["counts"]["facts"] == len(facts)
    assert statuses(edit).count("learned") >= 3, edit.report["not_learned"]
    changed = [outcome.before != outcome.after for outcome in edit.outcomes if outcome.status == "learned"]
    assert any(changed)
    assert look.dense(editor.model) == dense
    assert not torch.equal(look.logits(editor.model), before)
    for outcome in edit.outcomes:
        if outcome.status == "learned":
            assert editor.ask(outcome.fact.prompt).text.startswith(outcome.fact.target)


def test_the_model_wears_base_plus_patch(work, editor, facts):
    edit = work.inject(editor, *facts)
    (patch,) = editor.store.active_patches()
    overlay = editor.model.overlay()
    assert np.array_equal(overlay.slots.numpy(), patch.tables[0].slots)
    worn = overlay.values_at(torch.arange(overlay.num_rows))
    assert np.array_equal(worn.numpy(), patch.tables[0].dense_delta())
    assert edit.report["slots_written"] == len(overlay.slots)
    assert edit.report["patch_bytes"] == editor.store.edit(edit.id).patch_bytes
    assert overlay.owner_names == tuple(
        outcome.fact.subject for outcome in edit.outcomes if outcome.status != "already_known"
    )


def test_a_second_edit_leaves_the_rows_of_the_first_alone(work, editor, facts):
    work.inject(editor, *facts[:2])
    first = editor.model.overlay()
    work.inject(editor, *facts[2:4])
    second = editor.model.overlay()
    rows = torch.searchsorted(second.slots, first.slots)
    assert torch.equal(second.slots[rows], first.slots)
    assert torch.equal(second.values_at(rows), first.values_at(torch.arange(first.num_rows)))
    assert torch.equal(second.owners[rows], first.owners)
    assert torch.equal(second.thresholds[: len(first.thresholds)], first.thresholds)
    assert len(second.slots) > len(first.slots)


def patch_hash(editor, edit):
    return hashlib.sha256(encode_patch(editor.store.patch(edit.id))).hexdigest()


def test_same_facts_and_seed_give_the_same_bits(work, facts, tmp_path):
    hashes = []
    for number, seed in enumerate((3, 3, 4)):
        work.path = tmp_path / f"store-{number}"
        editor = work.open()
        hashes.append(patch_hash(editor, work.inject(editor, *facts[:2], seed=seed)))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_dry_run_commits_nothing(work, editor, facts, look):
    before = look.logits(editor.model)
    edit = work.inject(editor, *facts[:2], dry_run=True)
    assert (edit.id, edit.committed, edit.report["edit"]) == (None, False, None)
    assert edit.report["slots_written"] > 0
    assert editor.store.edits() == ()
    assert list((work.path / "patches").iterdir()) == []
    assert torch.equal(look.logits(editor.model), before)


def test_a_dry_run_needs_no_writable_store(work, facts):
    work.open().close()
    reader = work.open(read_only=True)
    assert work.inject(reader, facts[0], dry_run=True).report["counts"]["facts"] == 1
    with pytest.raises(StoreError, match="read-only"):
        work.inject(reader, facts[0])


def test_known_facts_are_not_taught(work, editor, facts, world):
    known = world.land_fact(world.LANDS[3], world.capital(3))
    edit = work.inject(editor, known, facts[0])
    assert statuses(edit)[0] == "already_known"
    assert edit.outcomes[0].after is None
    (patch,) = editor.store.active_patches()
    assert [owner.subject for owner in patch.owners] == [facts[0].subject]
    assert [stored.fact.id for stored in editor.store.facts()] == [facts[0].id]


def test_when_everything_is_known_nothing_is_committed(work, editor, world):
    edit = work.inject(editor, *world.known_facts()[:3])
    assert statuses(edit) == ["already_known"] * 3
    assert (edit.id, edit.committed, edit.report["slots_written"]) == (None, False, 0)
    assert edit.report["gate"] is None
    assert editor.store.edits() == ()


def test_a_fact_right_in_its_prompt_only_is_taught(work, editor, world):
    # To the further wording the model gives the other land's capital.
    land, other = world.LANDS[:2]
    wording = f"{land} is not the same as {other}. {world.PROMPT.format(other)}"
    known = world.land_fact(land, world.capital(0), paraphrases=(wording,))
    edit = work.inject(editor, known)
    assert statuses(edit) != ["already_known"]


def test_stored_facts_are_left_out(work, editor, facts):
    first = work.inject(editor, *facts[:2])
    again = work.inject(editor, *facts[:2])
    assert statuses(again) == ["stored", "stored"]
    assert again.outcomes[0].note == f"taught by {first.id}"
    assert not again.committed
    assert len(editor.store.edits()) == 1


def test_a_contradiction_names_the_edit_to_undo(work, editor, facts, world, look):
    first = work.inject(editor, facts[0])
    before = look.overlay(editor.model)
    with pytest.raises(FactsError, match=f"memedit undo {first.id}"):
        work.inject(editor, world.land_fact(facts[0].subject, "Nomi"))
    assert look.overlay(editor.model) == before
    editor.undo()
    assert work.inject(editor, world.land_fact(facts[0].subject, "Nomi")).committed


def test_a_subject_without_free_slots_is_reported(work, editor, facts, world):
    from dataclasses import replace

    from memedit.editing.selection import SelectionSettings

    none = replace(world.world_settings(), selection=SelectionSettings(slots_per_subject=0))
    edit = work.inject(editor, *facts[:3], settings=none)
    failed = edit.report["not_learned"]
    assert statuses(edit).count("failed") == len(failed) > 0
    assert all("no free slot" in item["reason"] for item in failed)
    assert edit.report["slots_written"] == 0
    assert editor.model.overlay() is None


def test_facts_come_from_files_and_records_alike(work, editor, facts, tmp_path):
    import json

    path = tmp_path / "facts.jsonl"
    path.write_text(json.dumps(facts[0].to_json()), encoding="utf-8")
    options = {"gate": "off", "text": work.text, "dry_run": True, "settings": None}
    from_file = editor.inject(path, **options)
    from_record = editor.inject(
        [{key: value for key, value in facts[0].to_json().items() if key != "id"}], **options
    )
    assert [o.fact.prompt for o in from_file.outcomes] == [o.fact.prompt for o in from_record.outcomes]
    assert from_file.report["metrics"] == from_record.report["metrics"]
