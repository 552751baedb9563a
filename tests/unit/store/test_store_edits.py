import subprocess
import sys

import pytest

from memedit.errors import FingerprintMismatch, StoreError
from memedit.store import Store, compose


def test_importing_the_store_needs_no_torch():
    code = "import sys, memedit.store; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_edit_is_there_after_opening_again(path, factory):
    new = factory.make_edit(
        1, report={"n": 1, "name": "Zubr\u00f3wka"}, measurements=({"m": 1},), num_facts=2
    )
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        record = store.commit(new)
        assert record == store.edit(record.id)
    with Store.open(path, fingerprint=factory.FINGERPRINT, read_only=True) as store:
        assert store.edits() == (record,)
        assert (record.number, record.active, record.num_facts, record.slots_written) == (1, True, 2, 3)
        assert (record.seed, record.created) == (7, factory.CREATED)
        assert record.report == {"n": 1, "name": "Zubr\u00f3wka"}
        assert record.patch_bytes == (path / "patches" / f"{record.id}.safetensors").stat().st_size
        assert tuple(stored.fact for stored in store.facts()) == new.facts
        assert tuple(stored.outcome for stored in store.facts(record.id)) == new.outcomes
        assert store.measurements(record.id) == ({"m": 1},)
        (patch,) = store.active_patches()
        assert patch.tables[0].delta.tobytes() == new.patch.tables[0].delta.tobytes()
        assert patch.metadata == {"fingerprint": factory.FINGERPRINT, "seed": "7"}


def test_a_closed_store_is_one_journal_file_and_the_patches(path, factory):
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        record = store.commit(factory.make_edit())
    assert sorted(file.name for file in path.iterdir()) == ["journal.sqlite", "lock", "patches"]
    assert [file.name for file in (path / "patches").iterdir()] == [f"{record.id}.safetensors"]


def test_the_same_edit_gets_the_same_digits_and_bits(tmp_path, factory):
    records = []
    for name in ("one", "two"):
        with Store.open(tmp_path / name, fingerprint=factory.FINGERPRINT) as store:
            records.append(store.commit(factory.make_edit()))
    assert records[0] == records[1]
    with Store.open(tmp_path / "one", fingerprint=factory.FINGERPRINT) as store:
        assert store.commit(factory.make_edit(2)).id[6:] != records[0].id[6:]


def test_edits_are_found_by_name_beginning_and_number(store, factory):
    first, second = (store.commit(factory.make_edit(number)) for number in (1, 2))
    for name in (first.id, first.id[:7], "e0001", "1", "e1", "0001", f" {first.id.upper()} "):
        assert store.edit(name) == first
    assert store.edit("2") == second
    with pytest.raises(StoreError, match=rf"fits 2 edits: {first.id}, {second.id}"):
        store.edit("e000")
    for name in ("3", "e0001-zzz", "", "nonsense"):
        with pytest.raises(StoreError, match=rf"no edit '{name}'; known edits: {first.id}, {second.id}"):
            store.edit(name)


def test_an_empty_store_knows_no_edit(store):
    assert store.edits() == store.facts() == store.active_patches() == ()
    with pytest.raises(StoreError, match="known edits: none"):
        store.edit("1")
    with pytest.raises(StoreError, match="no active edit to undo"):
        store.undo()
    with pytest.raises(StoreError, match="no undone edit to redo"):
        store.redo()


def test_undo_is_exact_and_redo_restores_the_order(store, factory, bits):
    def composed():
        return bits(compose(store.active_patches(), 4, 1))

    states = [composed()]
    for number in (1, 2, 3):
        store.commit(factory.make_edit(number))
        states.append(composed())
    assert store.undo().number == 3
    assert composed() == states[2]
    assert store.redo().number == 3
    assert composed() == states[3]
    record = store.undo("1")
    assert (record.number, record.active, store.edit("1").active) == (1, False, False)
    rest = [store.patch(name) for name in ("2", "3")]
    assert composed() == bits(compose(rest, 4, 1))
    store.redo("1")
    assert composed() == states[3]
    assert [edit.number for edit in store.edits()] == [1, 2, 3]


def test_redo_takes_the_edit_that_was_undone_last(store, factory):
    for number in (1, 2, 3):
        store.commit(factory.make_edit(number))
    for name in ("3", "1", "2"):
        store.undo(name)
    assert [store.redo().number for _ in range(3)] == [2, 1, 3]


def test_undo_and_redo_refuse_what_is_so_already(store, factory):
    record = store.commit(factory.make_edit())
    with pytest.raises(StoreError, match="active already"):
        store.redo("1")
    store.undo()
    with pytest.raises(StoreError, match=rf"undone already\n.*redo {record.id}"):
        store.undo("1")


def test_numbers_go_on_after_an_undo(store, factory):
    store.commit(factory.make_edit(1))
    store.undo()
    assert store.commit(factory.make_edit(2)).number == 2
    assert [patch.owners[0].subject for patch in store.active_patches()] == ["Land2"]


def test_patches_can_be_left_out(store, factory):
    for number in (1, 2, 3):
        store.commit(factory.make_edit(number))
    left = store.active_patches(without=["2", store.edit("3").id])
    assert [patch.owners[0].subject for patch in left] == ["Land1"]
    with pytest.raises(StoreError, match="no edit '9'"):
        store.active_patches(without=["9"])


def test_facts_are_found_in_active_edits_only(store, factory):
    first = store.commit(factory.make_edit(1))
    fact = factory.make_fact(1)
    for found in (store.find_fact("fact-1"), store.find_prompt("  the capital\u00a0 of LAND1 is ")):
        assert (found.fact, found.edit_id, found.active) == (fact, first.id, True)
    assert store.find_fact("fact-2") is None
    assert store.find_prompt("The capital of Land2 is") is None
    second = store.commit(factory.make_edit(1))
    assert store.find_fact("fact-1").edit_id == second.id
    store.undo("2")
    assert store.find_fact("fact-1").edit_id == first.id
    store.undo("1")
    assert store.find_fact("fact-1") is None
    assert store.find_prompt(fact.prompt) is None
    assert store.facts() == ()
    assert [(stored.fact, stored.active) for stored in store.facts("1")] == [(fact, False)]


def test_prompts_in_other_scripts_are_found(store, factory):
    fact = factory.make_fact(
        1,
        prompt="\u05d1\u05d9\u05e8\u05ea \u05d6\u05d5\u05d1\u05e8\u05d5\u05d1\u05e7\u05d4 \u05d4\u05d9\u05d0",
    )
    edit = factory.make_edit(1)
    store.commit(type(edit)((fact,), edit.outcomes, edit.patch, {}, 0, factory.CREATED))
    assert store.find_prompt(fact.prompt).fact == fact


def test_measurements_are_kept_in_order(store, factory):
    store.commit(factory.make_edit(1, measurements=({"a": 1},)))
    store.add_measurements("1", [{"b": 2}, {"c": None}])
    assert store.measurements("1") == ({"a": 1}, {"b": 2}, {"c": None})
    with pytest.raises(StoreError, match="measurement cannot be kept as JSON"):
        store.add_measurements("1", [{"d": 4}, {"e": float("nan")}])
    assert len(store.measurements("1")) == 3


def test_the_store_belongs_to_one_model(path, store, factory):
    assert store.fingerprint == factory.FINGERPRINT
    for read_only in (True, False):
        with pytest.raises(FingerprintMismatch, match="fingerprint model-a, it was opened with model-b"):
            Store.open(path, fingerprint="model-b", read_only=read_only)
    with Store.open(path, fingerprint=None) as other:
        assert other.fingerprint == factory.FINGERPRINT
    foreign = factory.make_patch(metadata={"fingerprint": "model-b"})
    with pytest.raises(
        FingerprintMismatch, match="'fingerprint' is model-b, the store and the edit say model-a"
    ):
        store.commit(factory.make_edit(patch=foreign))
    assert store.edits() == ()


def test_a_patch_of_another_shape_is_refused(store, factory):
    store.commit(factory.make_edit())
    wide = factory.make_patch(factory.make_table(dim=5))
    with pytest.raises(StoreError, match=r"1 table\(s\) of width 5, .* hold 1 of width 4"):
        store.commit(factory.make_edit(patch=wide))
    assert len(store.edits()) == 1


@pytest.mark.parametrize("report", [{"x": float("nan")}, {"x": {1}}, {"x": "\ud800"}])
def test_a_report_that_json_cannot_hold_commits_nothing(path, store, factory, report):
    with pytest.raises(StoreError, match="report cannot be kept as JSON"):
        store.commit(factory.make_edit(report=report))
    assert store.edits() == ()
    assert list((path / "patches").iterdir()) == []


def test_an_edit_whose_parts_contradict_each_other_cannot_be_made(factory):
    edit = factory.make_edit()
    fact, outcome = edit.facts[0], edit.outcomes[0]
    for facts, outcomes, created, message in (
        ((), (), factory.CREATED, "at least one fact"),
        ((fact,), (), factory.CREATED, "one for each of 1 facts, got 0"),
        ((fact, fact), (outcome, outcome), factory.CREATED, r"twice: \['fact-1'\]"),
        ((fact,), (outcome,), "yesterday", "ISO 8601"),
    ):
        with pytest.raises(ValueError, match=message):
            type(edit)(facts, outcomes, edit.patch, {}, 0, created)


def test_no_store_is_made_by_looking(path):
    for options in ({"fingerprint": None}, {"fingerprint": "m", "read_only": True}):
        with pytest.raises(StoreError, match="there is no store at"):
            Store.open(path, **options)
    assert not path.exists()


def test_a_file_in_place_of_the_folder_is_refused(path):
    path.write_text("mine")
    with pytest.raises(StoreError, match="must be a folder, it is a file"):
        Store.open(path, fingerprint="m")
    assert path.read_text() == "mine"


def test_names_of_folders_need_no_care(tmp_path, factory):
    path = tmp_path / "a b?c#d%20\u00e9"
    with Store.open(str(path), fingerprint=factory.FINGERPRINT) as store:
        store.commit(factory.make_edit())
    with Store.open(path, fingerprint=None, read_only=True) as store:
        assert len(store.active_patches()) == 1


def test_a_reader_sees_a_commit_of_an_open_store(path, store, factory):
    with Store.open(path, fingerprint=None, read_only=True) as reader:
        assert reader.edits() == ()
        with store.lock():
            store.commit(factory.make_edit())
            assert len(reader.edits()) == len(reader.active_patches()) == 1


def test_a_read_only_store_is_read_and_never_written(path, store, factory):
    store.commit(factory.make_edit(1))
    with Store.open(path, fingerprint=factory.FINGERPRINT, read_only=True) as reader:
        assert len(reader.facts()) == 1
        for write in (
            lambda: reader.commit(factory.make_edit(2)),
            reader.undo,
            reader.redo,
            lambda: reader.add_measurements("1", [{}]),
            lambda: reader.lock().__enter__(),
        ):
            with pytest.raises(StoreError, match="opened read-only"):
                write()
        assert reader.write_cache("base", [1]) is False
        assert reader.read_cache("base") is None
    assert not store.cache_dir.exists()


def test_the_cache_keeps_json(store):
    assert store.read_cache("base-answers") is None
    assert store.write_cache("base-answers", {"n": [1, None, "\u00e9"]})
    assert store.read_cache("base-answers") == {"n": [1, None, "\u00e9"]}
    assert store.write_cache("base-answers", 2)
    assert store.read_cache("base-answers") == 2
    assert [file.name for file in store.cache_dir.iterdir()] == ["base-answers.json"]
    (store.cache_dir / "base-answers.json").write_bytes(b'{"n": \xff')
    assert store.read_cache("base-answers") is None
    with pytest.raises(StoreError, match="cache entry 'base-answers' cannot be kept"):
        store.write_cache("base-answers", {1, 2})


@pytest.mark.parametrize("name", ["", "../journal", "a/b", ".hidden", "x" * 101, "a\0"])
def test_cache_names_stay_in_the_cache(store, name):
    for use in (lambda: store.write_cache(name, 1), lambda: store.read_cache(name)):
        with pytest.raises(ValueError, match="name must be letters"):
            use()
