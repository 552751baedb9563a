"""Damage on disk is found, named, and never more than it is."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memedit.errors import FingerprintMismatch, StoreCorrupt, StoreError, StoreTooNew
from memedit.store import Store
from memedit.store.patch_file import sha256_of

shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def filled(path, factory):
    """A closed store with three edits, the second undone."""
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        for number in (1, 2, 3):
            store.commit(factory.make_edit(number, num_facts=8, measurements=({"n": number},)))
        store.undo("2")
    return path


def execute(path, *statements):
    with closing(sqlite3.connect(path / "journal.sqlite", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def read_everything(path):
    with Store.open(path, fingerprint=None, read_only=True) as store:
        edits = [(edit, store.facts(edit.id), store.measurements(edit.id)) for edit in store.edits()]
        return edits, store.facts(), [patch.owners for patch in store.active_patches()]


def test_a_newer_journal_names_both_versions(filled):
    execute(filled, "PRAGMA user_version = 99")
    for read_only in (True, False):
        with pytest.raises(StoreTooNew, match=r"version 99, this memedit knows up to 2\nUpdate memedit"):
            Store.open(filled, fingerprint=None, read_only=read_only)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"not a database, but a text that is long enough to be one" * 100,
        lambda content: b"\0" * len(content),
        lambda content: content[:100],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-4096],
        lambda content: content[:4096] + b"\xff" * (len(content) - 4096),
    ],
)
def test_a_damaged_journal_says_how_to_mend_it(filled, damage):
    journal = filled / "journal.sqlite"
    journal.write_bytes(damage(journal.read_bytes()))
    for read_only in (True, False):
        with pytest.raises(StoreCorrupt, match=r"journal.sqlite[^\n]*\nRestore the store folder"):
            Store.open(filled, fingerprint=None, read_only=read_only)
    assert len(list((filled / "patches").iterdir())) == 3


def test_a_database_of_another_program_is_refused(path):
    path.mkdir()
    with closing(sqlite3.connect(path / "journal.sqlite")) as connection:
        connection.execute("CREATE TABLE edits (x)")
    with pytest.raises(StoreCorrupt, match="no journal of memedit"):
        Store.open(path, fingerprint="m")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE facts SET fact = replace(fact, 'Town1', 'Town2')",
        "UPDATE facts SET outcome = 'learned'",
        "UPDATE edits SET report = '{}' WHERE number = 3",
        "UPDATE edits SET seed = 8",
        "UPDATE patches SET sha256 = 'x' || substr(sha256, 2)",
        "DELETE FROM facts WHERE position = 7",
        "DELETE FROM patches WHERE edit = 3",
        "UPDATE edits SET seal = NULL",
    ],
)
def test_rows_that_were_not_committed_so_are_found(filled, statement):
    execute(filled, statement)
    with pytest.raises(StoreCorrupt, match="are not those that were committed"):
        Store.open(filled, fingerprint=None)


@pytest.mark.parametrize(
    "statement", ["DROP TABLE measurements", "UPDATE measurements SET measurement = '{'"]
)
def test_what_has_no_seal_is_checked_when_it_is_read(filled, statement):
    execute(filled, statement)
    with Store.open(filled, fingerprint=None) as store, pytest.raises(StoreCorrupt, match="is damaged"):
        store.measurements("1")


@shared_folder
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), width=st.integers(1, 8))
def test_damage_anywhere_in_the_journal_never_gives_wrong_facts(filled, place, flip, width):
    expected = read_everything(filled)
    copy = filled.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(filled, copy)
    journal = copy / "journal.sqlite"
    content = bytearray(journal.read_bytes())
    start = int(place * len(content))
    for position in range(start, min(start + width, len(content))):
        content[position] ^= flip
    journal.write_bytes(content)
    try:
        found = read_everything(copy)
    except StoreError as error:
        assert error.remedy  # noqa: PT017 - either outcome is right, a wrong fact is not
        return
    # Found nothing wrong: unused space, or what no seal covers (measurements, which edits are undone).
    for (edit, facts, _), (right, right_facts, _) in zip(found[0], expected[0], strict=True):
        assert (edit.id, edit.report, edit.patch_sha256) == (right.id, right.report, right.patch_sha256)
        assert [stored.fact for stored in facts] == [stored.fact for stored in right_facts]


def patch_of(path, number):
    with Store.open(path, fingerprint=None, read_only=True) as store:
        edit = store.edit(str(number))
    return edit, path / "patches" / f"{edit.id}.safetensors"


def flipped(content):
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:-1], lambda content: b"", None])
def test_a_damaged_patch_is_named_and_can_be_undone(filled, factory, damage):
    edit, file = patch_of(filled, 3)
    content = file.read_bytes()
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(content))
    with Store.open(filled, fingerprint=factory.FINGERPRINT) as store:
        with pytest.raises(StoreCorrupt) as caught:
            store.active_patches()
        found = [] if damage is None else [sha256_of(damage(content))]
        for part in (str(file), edit.patch_sha256, f"memedit undo {edit.id}", "backup", *found):
            assert part in str(caught.value)
        assert len(store.active_patches(without=["3"])) == 1
        store.undo("3")
        assert len(store.active_patches()) == 1
        with pytest.raises(StoreCorrupt):
            store.redo("3")
        assert not store.edit("3").active
        assert store.commit(factory.make_edit(4)).number == 4
        file.write_bytes(content)
        store.redo("3")
        assert len(store.active_patches()) == 3


@shared_folder
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_patch_is_always_found(filled, place, bit):
    _, file = patch_of(filled, 1)
    content = file.read_bytes()
    damaged = bytearray(content)
    damaged[int(place * len(content))] ^= 1 << bit
    file.write_bytes(damaged)
    try:
        with (
            Store.open(filled, fingerprint=None) as store,
            pytest.raises(StoreCorrupt, match="expected SHA-256"),
        ):
            store.active_patches()
    finally:
        file.write_bytes(content)


def test_two_patches_that_changed_places_are_found(filled):
    (_, one), (_, three) = patch_of(filled, 1), patch_of(filled, 3)
    content = one.read_bytes()
    one.write_bytes(three.read_bytes())
    three.write_bytes(content)
    with (
        Store.open(filled, fingerprint=None) as store,
        pytest.raises(StoreCorrupt, match="was changed after"),
    ):
        store.active_patches()


def test_a_journal_of_another_model_does_not_take_the_patches_along(filled):
    execute(filled, "UPDATE store SET value = 'model-b' WHERE key = 'fingerprint'")
    with (
        Store.open(filled, fingerprint="model-b") as store,
        pytest.raises(FingerprintMismatch, match="model-a"),
    ):
        store.active_patches()


def test_a_journal_that_another_program_holds(filled, factory, monkeypatch):
    monkeypatch.setattr("memedit.store.connection._BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(filled / "journal.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Store.open(filled, fingerprint=None) as store:
            with pytest.raises(StoreError, match=r"held by another program[^\n]*\nClose that program"):
                store.undo()
            assert len(store.edits()) == 3
        other.execute("ROLLBACK")


def test_a_store_copied_with_its_log_is_whole(filled, factory):
    copy = filled.with_name("copy")
    with Store.open(filled, fingerprint=None) as store:
        store.commit(factory.make_edit(4))
        shutil.copytree(filled, copy)
    with Store.open(copy, fingerprint=None, read_only=True) as store:
        assert len(store.edits()) == 4
