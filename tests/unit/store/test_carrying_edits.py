"""An edit carried to another store: the same patch and facts, one transaction, or refused with the reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memedit.errors import FingerprintMismatch, StoreCorrupt, StoreError, StoreTooNew, UsageError
from memedit.store import Owner, Store, Withdrawal, compact, compose, edit_file, export_edit, import_edit
from memedit.store.edit_file import encode_edit_file, read_edit_file


@pytest.fixture
def alone(factory):
    """An edit that writes slots and a subject of its own: alone(number, **changes)."""

    def made(number=1, *, slots=None, subject=None, **changes):
        slots = (10 * number, 10 * number + 1) if slots is None else slots
        owner = Owner(subject or f"Land{number}", 0.5, (f"fact-{number}",))
        patch = factory.make_patch(
            factory.make_table(slots, seed=number), owners=(owner,), metadata={"memedit": "0.1.0"}
        )
        report = {
            "model": "/home/somebody/models/small",
            "read": {"source": "/home/somebody/facts.jsonl", "records": 1},
            "counts": {"facts": 1, "learned": 1},
        }
        new = factory.make_edit(number, patch=patch, report=report, measurements=({"name": "later"},))
        return replace(new, **changes)

    return made


@pytest.fixture
def other(tmp_path, factory):
    """Another, empty store of the same base model."""
    with Store.open(tmp_path / "other", fingerprint=factory.FINGERPRINT, lock_timeout=1) as opened:
        yield opened


@pytest.fixture
def carry(store, other, tmp_path):
    """Carry an edit from the first store to the other one."""

    def carried(name):
        out = tmp_path / f"{name}.safetensors"
        out.unlink(missing_ok=True)
        export_edit(store, str(name), out)
        return import_edit(out, other.path)

    return carried


def sum_of(store):
    return compose(store.active_patches(), 4, 1)


def test_an_imported_edit_is_the_exported_one(store, other, carry, alone, bits):
    first = store.commit(alone(1))
    record = carry(1)
    assert bits(sum_of(other)) == bits(sum_of(store))
    assert other.facts() == store.facts()
    assert other.measurements("1") == store.measurements("1")
    assert (record.id, record.number, record.active, record.seed) == (first.id, 1, True, first.seed)
    assert record.patch_sha256 == first.patch_sha256
    assert record.report["imported"] == {"edit": first.id, "created": first.created, "kind": "inject"}
    assert record.report["counts"] == first.report["counts"]


def test_it_gets_the_next_number_and_can_be_undone(store, other, carry, alone, bits):
    other.commit(alone(5))
    before = bits(sum_of(other))
    store.commit(alone(1))
    record = carry(1)
    assert record.number == 2
    after = bits(sum_of(other))
    assert after != before
    assert other.undo().id == record.id
    assert bits(sum_of(other)) == before
    assert other.redo().id == record.id
    assert bits(sum_of(other)) == after


def test_the_receiving_store_keeps_its_name_for_the_model(store, other, carry, alone):
    store.commit(alone(1))
    assert carry(1).report["model"] is None, "a path of another machine says nothing here"
    other.undo()
    other.commit(alone(5, report={"model": "smollm2-135m"}))
    store.commit(alone(2))
    assert carry(2).report["model"] == "smollm2-135m"


def test_no_path_of_the_machine_is_in_the_file(store, alone, tmp_path):
    store.commit(alone(1))
    export_edit(store, "1", tmp_path / "edit.safetensors")
    assert b"somebody" not in (tmp_path / "edit.safetensors").read_bytes()


def test_a_store_that_is_not_there_is_made(store, alone, tmp_path):
    store.commit(alone(1))
    export_edit(store, "1", tmp_path / "edit.safetensors")
    import_edit(tmp_path / "edit.safetensors", tmp_path / "new")
    with Store.open(tmp_path / "new", fingerprint=store.fingerprint, read_only=True) as made:
        assert len(made.edits()) == 1


def test_a_folder_can_be_named_on_both_sides(store, other, alone, tmp_path):
    record = store.commit(alone(1))
    (tmp_path / "shared").mkdir()
    carried = export_edit(store, "1", tmp_path / "shared")
    assert carried.path == tmp_path / "shared" / f"{record.id}.safetensors"
    assert carried.num_bytes == carried.path.stat().st_size
    assert import_edit(tmp_path / "shared", other.path).num_facts == 1
    (tmp_path / "shared" / "more.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match=r"holds 2 files that end in \.safetensors, expected one"):
        import_edit(tmp_path / "shared", other.path)


def test_equal_edits_make_equal_files(store, alone, tmp_path):
    store.commit(alone(1))
    for name in ("a", "b"):
        export_edit(store, "1", tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_another_base_model_is_refused_with_both_fingerprints(store, alone, tmp_path):
    store.commit(alone(1))
    export_edit(store, "1", tmp_path / "edit.safetensors")
    with Store.open(tmp_path / "b", fingerprint="model-b") as other:
        with pytest.raises(FingerprintMismatch, match=r"fingerprint model-a, store .* belongs to model-b"):
            import_edit(tmp_path / "edit.safetensors", other.path)
        assert other.edits() == ()


@pytest.mark.parametrize("undone", [False, True])
def test_an_edit_that_is_there_is_refused(store, other, carry, alone, undone, tmp_path):
    store.commit(alone(1))
    carry(1)
    if undone:
        other.undo()
    with pytest.raises(StoreError, match=r"is in store .* already, as e0001") as refused:
        import_edit(tmp_path / "1.safetensors", other.path)
    assert ("memedit redo e0001" in str(refused.value)) == undone
    assert len(other.edits()) == 1


def test_facts_that_meet_are_refused(store, other, carry, alone, factory):
    store.commit(alone(1))
    fact = factory.make_fact(1, id="other", target="Elsewhere")
    other.commit(alone(5, facts=(fact,), outcomes=({"fact_id": "other", "status": "learned"},)))
    with pytest.raises(
        StoreError, match=r"contradicts the stored fact other.*\nTake them out first: memedit undo e0001"
    ):
        carry(1)
    assert len(other.edits()) == 1


def test_a_subject_that_is_taught_is_refused(store, other, carry, alone):
    store.commit(alone(1, subject="Zubrowka"))
    other.commit(alone(5, subject="Zubrowka"))
    with pytest.raises(StoreError, match=r"teaches Zubrowka, and so does edit e0001-.*\nTake that edit back"):
        carry(1)
    other.undo()
    assert carry(1).number == 2


def test_slots_of_others_are_refused(store, other, carry, alone):
    store.commit(alone(1, slots=(3, 7, 9)))
    other.commit(alone(5, slots=(2, 7, 9)))
    with pytest.raises(
        StoreError, match=r"writes 2 slot\(s\) that store .* holds for Land5: a slot has one owner"
    ):
        carry(1)
    assert len(other.edits()) == 1


def test_conflicts_that_were_there_are_no_reason(store, other, carry, alone):
    other.commit(alone(5, slots=(2, 7)))
    other.commit(alone(6, slots=(7, 8)))
    store.commit(alone(1, slots=(3, 4)))
    assert carry(1).number == 3


def test_rows_without_an_owner_are_summed_as_everywhere(store, other, carry, alone, factory):
    def ungated(number):
        table = factory.make_table((3, 4), seed=number, owners=(-1, -1))
        return alone(number, patch=factory.make_patch(table, owners=()))

    store.commit(ungated(1))
    other.commit(ungated(5))
    carry(1)
    expected = other.patch("1").tables[0].delta + store.patch("1").tables[0].delta
    assert np.array_equal(sum_of(other).tables[0].dense_delta(), expected)


def test_another_shape_is_refused(store, other, carry, alone, factory):
    store.commit(alone(1))
    other.commit(
        alone(5, patch=factory.make_patch(factory.make_table((50,), dim=8, owners=(-1,)), owners=()))
    )
    with pytest.raises(StoreError, match=r"1 table\(s\) of width 4, those in store .* hold 1 of width 8"):
        carry(1)


def test_an_edit_on_top_of_another_is_refused_until_both_are_merged(store, other, carry, alone, bits):
    store.commit(alone(1, slots=(3, 7)))
    store.commit(alone(2, slots=(7, 8), subject="Land1"))
    with pytest.raises(
        StoreError,
        match=r"trained on top of edit e0001-\w+, with which it shares 1 slot\(s\) and the subject Land1",
    ):
        carry(2)
    merged = compact(store)
    with pytest.raises(StoreError, match=f"was merged into {merged.id}"):
        carry(1)
    record = carry(3)
    assert (record.kind, record.num_facts, record.report["imported"]["kind"]) == ("inject", 2, "compact")
    assert bits(sum_of(other)) == bits(sum_of(store))
    assert all("taught_by" not in stored.outcome for stored in other.facts())
    with pytest.raises(StoreError, match=r"is in store .* already, as e0001"):
        carry(3)


def test_facts_that_were_forgotten_are_not_carried(store, other, carry, alone, factory, bits, tmp_path):
    table = factory.make_table((1, 2, 3), owners=(0, 1, 1))
    patch = factory.make_patch(
        table, owners=(Owner("Land1", 0.5, ("fact-1",)), Owner("Land1001", 0.5, ("fact-1001",)))
    )
    report = {"not_learned": [{"id": "fact-1001", "prompt": "The capital of Land1001 is"}], "seconds": {}}
    store.commit(factory.make_edit(1, patch=patch, report=report, num_facts=2))
    store.commit(factory.make_forgetting(store.edit("1").id, "Land1001"))
    carried = export_edit(store, "1", tmp_path / "edit.safetensors")
    assert (carried.num_facts, carried.left_out) == (1, 1)
    assert b"Land1001" not in carried.path.read_bytes()
    import_edit(carried.path, other.path)
    assert bits(sum_of(other)) == bits(sum_of(store))
    with pytest.raises(StoreError, match=r"\(forget\) holds no fact"):
        carry(2)


def test_a_replacing_edit_is_carried_as_one_that_teaches(store, other, carry, alone):
    first = store.commit(alone(1))
    store.commit(alone(2, kind="replace", withdraws=(Withdrawal(first.id, "Land1"),)))
    record = carry(2)
    assert (record.kind, record.withdraws, record.report["imported"]["kind"]) == ("inject", (), "replace")
    assert "withdraws" not in other.patch("1").metadata


def test_an_undone_edit_is_refused(store, carry, alone):
    record = store.commit(alone(1))
    store.undo()
    with pytest.raises(StoreError, match=f"is undone\nBring it back first: memedit redo {record.id}"):
        carry(1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("edit.json", r"a file whose name ends in \.safetensors"),
        ("nowhere/edit.safetensors", "there is no folder"),
        ("there.safetensors", "is there already"),
    ],
)
def test_places_that_cannot_be_written(store, alone, tmp_path, name, said):
    store.commit(alone(1))
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    with pytest.raises(UsageError, match=said):
        export_edit(store, "1", tmp_path / name)
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"


def test_every_wrong_byte_is_found(store, other, alone, tmp_path):
    store.commit(alone(1))
    good = tmp_path / "edit.safetensors"
    export_edit(store, "1", good)
    payload = good.read_bytes()
    bad = tmp_path / "bad.safetensors"
    for place in range(len(payload)):
        bad.write_bytes(payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :])
        with pytest.raises((StoreCorrupt, StoreTooNew)):
            read_edit_file(bad)
    for length in (0, 7, 100, len(payload) - 1):
        bad.write_bytes(payload[:length])
        with pytest.raises(StoreCorrupt):
            import_edit(bad, other.path)
    bad.write_bytes(payload + b"\0")
    with pytest.raises(StoreCorrupt):
        import_edit(bad, other.path)
    assert other.edits() == ()


def test_files_that_are_none(store, other, alone, tmp_path):
    store.commit(alone(1))
    (patch,) = (store.path / "patches").iterdir()
    with pytest.raises(StoreCorrupt, match="it is no file of an edit"):
        import_edit(patch, other.path)
    with pytest.raises(StoreCorrupt, match="is missing"):
        import_edit(tmp_path / "nothing.safetensors", other.path)


def test_a_newer_file_is_refused(store, other, alone, tmp_path, monkeypatch):
    store.commit(alone(1))
    with monkeypatch.context() as patched:
        patched.setattr(edit_file, "EDIT_FORMAT_VERSION", 9)
        export_edit(store, "1", tmp_path / "edit.safetensors")
    with pytest.raises(StoreTooNew, match="format version 9, this memedit reads up to 1"):
        import_edit(tmp_path / "edit.safetensors", other.path)


@pytest.mark.parametrize(
    "change",
    [
        {"outcomes": ()},
        {"facts": ()},
    ],
)
def test_a_sealed_file_that_contradicts_itself_is_refused(store, other, alone, tmp_path, change):
    store.commit(alone(1))
    export_edit(store, "1", tmp_path / "edit.safetensors")
    wrong = replace(read_edit_file(tmp_path / "edit.safetensors"), **change)
    (tmp_path / "wrong.safetensors").write_bytes(encode_edit_file(wrong))
    with pytest.raises(StoreCorrupt, match="contradicts itself"):
        import_edit(tmp_path / "wrong.safetensors", other.path)
    assert other.edits() == ()


def test_an_import_that_dies_leaves_nothing(store, other, alone, tmp_path, monkeypatch):
    store.commit(alone(1))
    export_edit(store, "1", tmp_path / "edit.safetensors")

    def killed(self, number):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("memedit.store.journal.Journal.seal_edit", killed)
        with pytest.raises(KeyboardInterrupt):
            import_edit(tmp_path / "edit.safetensors", other.path)
    assert other.edits() == ()
    assert list((other.path / "patches").iterdir()) == []
    assert import_edit(tmp_path / "edit.safetensors", other.path).number == 1


def test_a_full_disk_leaves_no_file(store, alone, tmp_path, monkeypatch):
    store.commit(alone(1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memedit.store.durable_file.os.fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        export_edit(store, "1", tmp_path / "edit.safetensors")
    assert not list(tmp_path.glob("*edit.safetensors*"))
