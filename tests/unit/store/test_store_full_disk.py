"""A disk that refuses a write: one clear message, and the store as it was."""

import errno
import json
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest

from memedit.errors import StoreError
from memedit.store import Store, durable_file


def snapshot(path):
    return {file.relative_to(path): file.read_bytes() for file in (path / "patches").iterdir()}


class FailingCalls:
    """Let the first calls of a function through, then refuse one for lack of space."""

    def __init__(self, function, num_good, code=errno.ENOSPC):
        self.function, self.num_good, self.code, self.calls = function, num_good, code, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.num_good + 1:
            raise OSError(self.code, os.strerror(self.code))
        return self.function(*args, **kwargs)


@pytest.mark.parametrize(("name", "num_calls"), [("write", 2), ("fsync", 2), ("open", 2)])
@pytest.mark.parametrize("num_good", [0, 1, 2])
def test_no_space_for_the_patch(path, store, factory, monkeypatch, name, num_calls, num_good):
    store.commit(factory.make_large_edit(1))
    before = snapshot(path)
    with store.lock(), monkeypatch.context() as patched:
        refusal = FailingCalls(getattr(os, name), num_good)
        patched.setattr(durable_file.os, name, refusal)
        if num_good < num_calls:
            with pytest.raises(StoreError, match="No space left on device\nFree disk space"):
                store.commit(factory.make_large_edit(2))
        else:
            store.commit(factory.make_large_edit(2))
            assert refusal.calls == num_calls
    if num_good < num_calls:
        assert len(store.edits()) == 1
        assert snapshot(path) == before
        assert store.commit(factory.make_large_edit(2)).number == 2


def test_a_rename_that_fails(path, store, factory, monkeypatch):
    with store.lock(), monkeypatch.context() as patched:
        patched.setattr(Path, "replace", FailingCalls(Path.replace, 0, errno.EDQUOT))
        with pytest.raises(StoreError, match="cannot be written"):
            store.commit(factory.make_edit(1))
    assert store.edits() == ()
    assert snapshot(path) == {}


def test_short_writes_are_continued(path, store, factory, monkeypatch):
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(durable_file.os, "write", lambda file, data: write(file, data[:1000]))
        store.commit(factory.make_edit(1, patch=factory.make_patch(factory.make_table(range(99), dim=32))))
    assert len(store.active_patches()) == 1


@pytest.mark.parametrize("num_more_pages", [0, 1, 2, 5, 20, 60])
def test_no_space_for_the_journal(path, store, factory, num_more_pages):
    store.commit(factory.make_edit(1))
    before = snapshot(path)
    connection = store._journal._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + num_more_pages}")
    big = factory.make_edit(2, report={"text": "x" * 300_000})
    with pytest.raises(StoreError, match="full\nFree disk space"):
        store.commit(big)
    assert len(store.edits()) == 1
    assert snapshot(path) == before
    connection.execute("PRAGMA max_page_count = 1000000")
    assert store.commit(big).number == 2


def test_the_system_refuses_large_files(path, factory, start_child):
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        store.commit(factory.make_edit(1))
    before = snapshot(path)
    # Past 10 bytes the patch fails, past 40,000 SQLite's log, past 10 million nothing.
    children = {}
    for limit in (10, 40_000, 200_000):
        copy = path.with_name(f"store-{limit}")
        shutil.copytree(path, copy)
        children[limit] = start_child("commit_with_file_limit", copy, limit)
    for limit, child in children.items():
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        assert out.startswith("refused:"), (limit, out)
        assert "Free disk space" in out
        copy = path.with_name(f"store-{limit}")
        with Store.open(copy, fingerprint=factory.FINGERPRINT) as store:
            assert [edit.number for edit in store.edits()] == [1]
            with store.lock():
                pass
            assert snapshot(copy) == before
            assert store.commit(factory.make_edit(2)).number == 2
    out = start_child("commit_with_file_limit", path, 10_000_000).communicate(timeout=60)[0]
    assert out.strip() == "committed"


def test_a_commit_that_fails_at_the_very_end_leaves_its_patch_to_the_next_writer(path, store, factory):
    # What a failed COMMIT left on disk is known only later; until then the patch must stay.
    class Connection:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def execute(self, sql, *args):
            if sql == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return self.real.execute(sql, *args)

    real = store._journal._connection
    store._journal._connection = Connection(real)
    with pytest.raises(StoreError, match="disk I/O error"):
        store.commit(factory.make_edit(1))
    assert len(snapshot(path)) == 1
    store._journal._connection = real
    assert store.edits() == ()
    with store.lock():
        assert snapshot(path) == {}
    assert store.commit(factory.make_edit(1)).number == 1


def test_no_space_for_the_cache(store, monkeypatch):
    store.write_cache("base", 1)
    with monkeypatch.context() as patched:
        patched.setattr(durable_file.os, "write", FailingCalls(os.write, 0))
        with pytest.raises(StoreError, match="No space left"):
            store.write_cache("base", 2)
    assert store.read_cache("base") == 1
    assert len(list(store.cache_dir.iterdir())) == 1


def test_no_space_for_the_store(path, factory, monkeypatch):
    for name, num_good in (("fsync", 0), ("fsync", 1)):
        with monkeypatch.context() as patched:
            patched.setattr(durable_file.os, name, FailingCalls(os.fsync, num_good))
            with pytest.raises(StoreError, match="No space left"):
                Store.open(path, fingerprint=factory.FINGERPRINT)
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        assert store.commit(factory.make_edit()).number == 1


@pytest.fixture
def public_folder():
    """A folder that another user can reach, as pytest's own is closed to everyone else."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for name in (folder, *folder.rglob("*")):
        name.chmod(0o755)
    shutil.rmtree(folder)


def test_a_store_that_may_not_be_written_is_read(public_folder, factory, start_child):
    path = public_folder / "store"
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        store.commit(factory.make_edit(1))
    for name in path.rglob("*"):
        name.chmod(0o555 if name.is_dir() else 0o444)
    path.chmod(0o555)
    # The child gives up root's rights, which no file mode stops.
    out, err = start_child("use_unwritable", path).communicate(timeout=60)
    assert out, err
    result = json.loads(out)
    assert (result["read"], result["cached"]) == ([1, 1, 1], False)
    assert "read-only" in result["error"] or "writable" in result["error"]
    assert str(path) in result["error"]
