"""What later edits take out of earlier ones: exact, undoable, and never a file rewritten."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memedit.errors import StoreCorrupt, StoreError, UsageError
from memedit.store import (
    NewEdit,
    Owner,
    Patch,
    Store,
    TablePatch,
    Withdrawal,
    compact,
    compose,
    encode_patch,
    left_of,
)
from memedit.store import compaction as compaction_module

OLD = Path(__file__).parent / "store_v1"


def two_subjects(factory, number):
    """An edit of two facts about two subjects, with a row that no subject owns."""
    facts = (factory.make_fact(number), factory.make_fact(number + 100))
    table = factory.make_table((0, number, number + 10, 99), seed=number, owners=(0, 0, 1, -1))
    owners = tuple(Owner(fact.subject, 0.5, (fact.id,)) for fact in facts)
    outcomes = tuple({"fact_id": fact.id, "status": "learned", "after": fact.target} for fact in facts)
    patch = factory.make_patch(table, owners=owners)
    return NewEdit(facts, outcomes, patch, {"model": "small"}, 7, factory.CREATED)


@pytest.fixture
def filled(store, factory):
    """A store with two edits of two subjects each."""
    for number in (1, 2):
        store.commit(two_subjects(factory, number))
    return store


def test_a_withdrawn_subject_takes_its_shared_row_along():
    vectors, owners = np.eye(3, dtype=np.float32), np.array([0, 1, 0, -1, 1, 0])
    rows = np.array([0, 1, 0, 2, 1, 0])
    table = TablePatch(np.arange(6), vectors, owners, rows)
    whole = Patch((table,), (Owner("Ada", 0.25, ("a",)), Owner("Bob", 0.5, ("b",))))
    left = left_of(whole, {"Ada"})
    assert left.tables[0].slots.tolist() == [1, 3, 4]
    assert left.tables[0].owners.tolist() == [0, -1, 0]
    assert np.array_equal(left.tables[0].dense_delta(), vectors[[1, 2, 1]])
    (summed_up,) = compose([left], 3, 1).tables
    assert np.array_equal(summed_up.delta, vectors[[1, 2]])
    assert len(encode_patch(left)) < len(encode_patch(whole))
    assert left_of(whole, {"Cyd"}) is whole


def ids(facts):
    return [stored.fact.id for stored in facts]


def summed(store, bits, **state):
    return bits(compose(store.active_patches(**state), 4, 1))


def test_a_withdrawn_subject_is_out_of_patches_and_facts(path, filled, factory, bits):
    files = {file.name: file.read_bytes() for file in (path / "patches").iterdir()}
    before = summed(filled, bits)
    first, second = filled.edits()
    record = filled.commit(factory.make_forgetting(first.id, "Land1"))
    assert (record.kind, record.withdraws) == ("forget", (Withdrawal(first.id, "Land1"),))
    assert ids(filled.facts()) == ["fact-101", "fact-2", "fact-102"]
    assert filled.find_fact("fact-1") is None
    assert filled.find_prompt("The capital of Land1 is") is None
    told = {stored.fact.id: (stored.active, stored.withdrawn_by) for stored in filled.facts(first.id)}
    assert told == {"fact-1": (False, record.id), "fact-101": (True, None)}
    left, *_ = filled.active_patches()
    assert [owner.subject for owner in left.owners] == ["Land101"]
    whole = filled.patch(first.id).tables[0]
    assert left.tables[0].slots.tolist() == [11, 99]
    assert left.tables[0].owners.tolist() == [0, -1]
    assert left.tables[0].dense_delta().tobytes() == whole.dense_delta()[2:].tobytes()
    for name, content in files.items():
        assert (path / "patches" / name).read_bytes() == content
    # The same state in earlier times, and as if it had not been forgotten.
    assert summed(filled, bits, upto=second.id) == summed(filled, bits, without=[record.id]) == before
    assert ids(filled.facts(upto=second.id)) == ["fact-1", "fact-101", "fact-2", "fact-102"]
    forgotten = summed(filled, bits)
    filled.undo()
    assert summed(filled, bits) == before
    assert ids(filled.facts()) == ["fact-1", "fact-101", "fact-2", "fact-102"]
    filled.redo()
    assert summed(filled, bits) == forgotten


def test_two_edits_that_forget_differ_in_their_hash(filled, factory):
    # A state is named by the hashes of its patches: equal ones would share what was measured.
    first = filled.edits()[0]
    hashes = set()
    for subject in ("Land1", "Land101"):
        hashes.add(filled.commit(factory.make_forgetting(first.id, subject)).patch_sha256)
        filled.undo()
    assert len(hashes) == 2


def test_what_is_withdrawn_must_be_there(filled, factory):
    first, second = filled.edits()
    record = filled.commit(factory.make_forgetting(first.id, "Land1"))
    with pytest.raises(StoreError, match=rf"out of which edit {record.id} has taken facts"):
        filled.commit(factory.make_forgetting(first.id, "Land1"))
    filled.undo(second.id)
    with pytest.raises(StoreError, match=rf"rests on edit {second.id}, which is undone\n.*redo {second.id}"):
        filled.commit(factory.make_forgetting(second.id, "Land2"))
    assert len(filled.edits()) == 3


def test_an_edit_is_not_taken_back_from_under_a_later_one(filled, factory):
    first, second = filled.edits()
    record = filled.commit(factory.make_forgetting(first.id, "Land1"))
    with pytest.raises(StoreError, match=rf"cannot be taken back alone: edit {record.id} \(forget\)"):
        filled.undo(first.id)
    assert filled.undo(second.id).undone
    filled.undo(record.id)
    filled.undo(first.id)
    with pytest.raises(StoreError, match=rf"rests on edit {first.id}, which is undone"):
        filled.redo(record.id)
    for number in (first, record, second):
        assert filled.redo(number.id).active


def test_what_was_taught_since_keeps_its_ground(filled, factory):
    first = filled.edits()[0]
    record = filled.commit(factory.make_forgetting(first.id, "Land1"))
    again = filled.commit(factory.make_edit(1))
    with pytest.raises(StoreError, match=rf"edit {again.id} has taught Land1 since"):
        filled.undo(record.id)
    filled.undo(again.id)
    filled.undo(record.id)
    filled.redo(again.id)
    with pytest.raises(StoreError, match=rf"cannot be brought back: edit {again.id} has taught Land1"):
        filled.redo(record.id)


def test_compaction_changes_no_bit_of_the_sum(path, filled, factory, bits):
    first, second = filled.edits()
    forgot = filled.commit(factory.make_forgetting(first.id, "Land1"))
    before, facts = summed(filled, bits), ids(filled.facts())
    record = compact(filled)
    assert (record.kind, record.active) == ("compact", True)
    assert record.report["merged"] == [first.id, second.id, forgot.id]
    assert record.report["model"] == "small"
    assert record.report["rows"] == {"before": 8, "after": record.slots_written}
    assert record.report["bytes_in_use"]["after"] == pytest.approx(record.patch_bytes, abs=400)
    assert len(filled.active_patches()) == 1
    assert summed(filled, bits) == before
    assert ids(filled.facts()) == facts
    taught = {stored.fact.id: stored.outcome["taught_by"] for stored in filled.facts()}
    assert taught == {"fact-101": first.id, "fact-2": second.id, "fact-102": second.id}
    merged = filled.edits()[:3]
    assert [(edit.active, edit.undone, edit.merged_into) for edit in merged] == [
        (False, False, record.id)
    ] * 3
    with Store.open(path, fingerprint=None, read_only=True) as reader:
        assert summed(reader, bits) == before
    # Earlier states are still there, and the whole comes back.
    assert ids(filled.facts(upto=second.id)) == ["fact-1", "fact-101", "fact-2", "fact-102"]
    for edit in merged:
        with pytest.raises(StoreError, match=rf"edit {record.id} \(compact\) holds all of it\n.*undo"):
            filled.undo(edit.id)
        with pytest.raises(StoreError, match=rf"cannot be left out: edit {record.id} holds all of it"):
            filled.active_patches(without=[edit.id])
    assert summed(filled, bits, without=[record.id]) == before
    filled.undo()
    assert [edit.active for edit in filled.edits()] == [True, True, True, False]
    assert summed(filled, bits) == before
    filled.redo()
    assert len(filled.active_patches()) == 1


def test_a_compaction_is_compacted_and_forgotten_from(filled, factory, bits):
    first = compact(filled)
    later = filled.commit(factory.make_edit(1))
    before = summed(filled, bits)
    second = compact(filled)
    assert summed(filled, bits) == before
    assert [edit.merged_into for edit in filled.edits()] == [second.id] * 4 + [None]
    assert filled.facts()[-1].outcome["taught_by"] == later.id
    forgot = filled.commit(factory.make_forgetting(second.id, "Land2"))
    assert "fact-2" not in ids(filled.facts())
    # The forgotten fact must not come back with the parts of the compaction.
    with pytest.raises(StoreError, match=rf"edit {forgot.id} \(forget\) has taken facts out of it"):
        filled.undo(second.id)
    filled.undo()
    filled.undo()
    assert summed(filled, bits) == before
    assert [edit.active for edit in filled.edits()] == [False, False, True, True, False, False]
    assert filled.edit(first.id).merged_into is None


def test_a_compaction_is_redone_on_the_same_ground_only(filled, factory):
    first, second = filled.edits()
    record = compact(filled)
    filled.undo()
    forgot = filled.commit(factory.make_forgetting(first.id, "Land1"))
    with pytest.raises(StoreError, match=rf"out of which edit {forgot.id} has taken facts since"):
        filled.redo(record.id)
    filled.undo()
    filled.undo(second.id)
    with pytest.raises(StoreError, match=rf"rests on edit {second.id}, which is undone"):
        filled.redo(record.id)
    filled.redo(second.id)
    assert filled.redo(record.id).active


def test_there_must_be_something_to_compact(store, factory):
    with pytest.raises(UsageError, match="nothing to compact: no edit is active"):
        compact(store)
    first = store.commit(two_subjects(factory, 1))
    with pytest.raises(UsageError, match=rf"only edit {first.id} is active"):
        compact(store)
    forgot = store.commit(factory.make_forgetting(first.id, "Land1"))
    assert compact(store).report["merged"] == [first.id, forgot.id]


def test_a_compaction_that_would_change_the_sum_is_not_committed(filled, monkeypatch):
    def last_only(patches, dim, num_tables):
        return compose(patches[-1:] if len(patches) > 1 else [factory_shifted(patches[0])], dim, num_tables)

    def factory_shifted(patch):
        table = patch.tables[0]
        shifted = replace(table, delta=np.nextafter(table.delta, np.float32(np.inf)))
        return replace(patch, tables=(shifted,))

    monkeypatch.setattr(compaction_module, "compose", last_only)
    with pytest.raises(StoreError, match="not the sum of its parts"):
        compact(filled)
    assert len(filled.edits()) == 2


def test_of_a_fact_that_two_edits_hold_the_newest_is_kept(store, factory):
    first = factory.make_edit(1)
    store.commit(replace(first, outcomes=({"fact_id": "fact-1", "status": "failed"},)))
    again = store.commit(factory.make_edit(1))
    compact(store)
    (stored,) = store.facts()
    assert (stored.outcome["status"], stored.outcome["taught_by"]) == ("learned", again.id)


def test_rows_left_of_a_patch_keep_their_owners(factory):
    patch = two_subjects(factory, 1).patch
    assert left_of(patch, {"Land9"}) is patch
    left = left_of(patch, {"Land1", "Land101"})
    assert (left.owners, left.tables[0].slots.tolist(), left.dim) == ((), [99], 4)


def test_an_edit_that_contradicts_itself_cannot_be_made(factory):
    edit = factory.make_edit(1)
    for changes in ({"kind": "forget"}, {"withdraws": (Withdrawal("e0001", "x"),)}, {"kind": "other"}):
        with pytest.raises(ValueError, match=r"withdraws must name|kind must be one of"):
            replace(edit, **changes)


@pytest.mark.parametrize("change", ["UPDATE operations SET kind = 'replace'", "DELETE FROM operations"])
def test_what_is_withdrawn_is_sealed(path, filled, factory, change):
    first = filled.edits()[0]
    filled.commit(factory.make_forgetting(first.id, "Land1"))
    filled._journal._connection.execute(change)
    with pytest.raises(StoreCorrupt, match=r"rows of edit 'e0003-.*' are not those that were committed"):
        Store.open(path, fingerprint=None, read_only=True)


@pytest.fixture
def old(tmp_path):
    """A store with three edits, the last undone, that memedit wrote at schema version 1."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def version_of(path):
    with closing(sqlite3.connect(path / "journal.sqlite")) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def test_an_old_store_is_read_without_being_written(old, factory):
    with Store.open(old, fingerprint=factory.FINGERPRINT, read_only=True) as store:
        assert [(edit.active, edit.kind) for edit in store.edits()] == [
            (True, "inject"),
            (True, "inject"),
            (False, "inject"),
        ]
        assert ids(store.facts()) == ["fact-1", "fact-2", "fact-1002"]
        assert len(store.active_patches()) == 2
        assert store.measurements("1") == ({"m": 1},)
    assert version_of(old) == 1


def test_an_old_store_is_brought_up_to_date(old, factory, bits):
    with Store.open(old, fingerprint=None, read_only=True) as store:
        records, before = store.edits(), summed(store, bits)
    with Store.open(old, fingerprint=factory.FINGERPRINT) as store:
        assert store.edits() == records
        assert summed(store, bits) == before
        assert store.redo().number == 3
        store.commit(factory.make_forgetting(records[0].id, "Land1"))
        assert compact(store).number == 5
        assert ids(store.facts()) == ["fact-2", "fact-1002", "fact-3"]
    assert version_of(old) == 2
    with Store.open(old, fingerprint=None) as store:
        store.undo()
        store.undo()
        store.undo("3")
        assert summed(store, bits) == before


def test_two_processes_bring_a_store_up_to_date_once(old, factory, start_child):
    children = [start_child("commit_some", old, first) for first in (10, 20)]
    for child in children:
        assert child.wait(timeout=60) == 0, child.stderr.read()
    with Store.open(old, fingerprint=factory.FINGERPRINT) as store:
        assert [edit.number for edit in store.edits()] == list(range(1, 14))


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(old, factory, monkeypatch):
    from memedit.store import migration

    good = migration.UPGRADES[1]
    monkeypatch.setitem(migration.UPGRADES, 1, (good[0], "CREATE TABLE withdrawals (edit REFERENCES"))
    with pytest.raises(StoreError):
        Store.open(old, fingerprint=factory.FINGERPRINT)
    assert version_of(old) == 1
    monkeypatch.undo()
    with Store.open(old, fingerprint=factory.FINGERPRINT) as store:
        assert store.commit(factory.make_edit(4)).number == 4
