import json
import os
import socket
import time

import pytest

from memedit.errors import StoreError, StoreLocked
from memedit.store import Store


def test_a_second_writer_is_refused_and_told_who_writes(path, store, factory, start_child):
    child = start_child("hold_lock", path, 60)
    assert child.stdout.readline() == "held\n"
    with pytest.raises(StoreLocked) as caught, store.lock(timeout=0):
        pass
    holder = json.loads((path / "lock.json").read_text())
    for part in (str(child.pid), socket.gethostname(), holder["since"], str(path)):
        assert part in str(caught.value)
    assert store.edits() == ()
    child.kill()
    child.wait()
    # Killed while it held the lock: nothing to clean up, and its name tells nothing any more.
    assert (path / "lock.json").exists()
    assert store.commit(factory.make_edit()).number == 1
    assert not (path / "lock.json").exists()


def test_a_second_writer_waits_if_it_may(path, store, factory, start_child):
    child = start_child("hold_lock", path, 0.5)
    assert child.stdout.readline() == "held\n"
    start = time.monotonic()
    with store.lock(timeout=30):
        assert time.monotonic() - start > 0.2
    child.wait()


def test_two_stores_of_one_process_exclude_each_other_too(path, store, factory):
    with Store.open(path, fingerprint=None, lock_timeout=0) as other:
        with store.lock():
            with pytest.raises(StoreLocked, match=f"process {os.getpid()} "):
                other.commit(factory.make_edit())
            with pytest.raises(StoreLocked):
                other.undo()
        assert other.commit(factory.make_edit()).number == 1


def test_the_lock_may_be_taken_again_inside(path, store, factory):
    with store.lock():
        with store.lock():
            store.commit(factory.make_edit(1))
        with Store.open(path, fingerprint=None, lock_timeout=0) as other, pytest.raises(StoreLocked):
            other.undo()
        store.commit(factory.make_edit(2))
    with Store.open(path, fingerprint=None, lock_timeout=0) as other:
        assert other.undo().number == 2
    assert [edit.active for edit in store.edits()] == [True, False]


def test_an_unreadable_name_of_the_holder_does_no_harm(path, store):
    with Store.open(path, fingerprint=None) as other, other.lock():
        for text in ("", "{", "[1]", '{"pid": 1}'):
            (path / "lock.json").write_text(text)
            with pytest.raises(StoreLocked, match="written by another process"), store.lock(timeout=0):
                pass


def test_the_lock_is_free_after_an_error(path, store, factory):
    with pytest.raises(RuntimeError), store.lock():
        raise RuntimeError
    with Store.open(path, fingerprint=None, lock_timeout=0) as other:
        assert other.commit(factory.make_edit()).number == 1


def test_a_lock_that_the_system_refuses(path, store, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store._lock._lock, "acquire", refuse)
    with pytest.raises(StoreError, match="Permission denied\nFree disk space or make the folder writable"):
        store.undo()


def test_processes_that_commit_at_once_take_turns(path, factory, start_child):
    # None of them finds a store: they make it at the same time as well.
    children = [start_child("commit_some", path, 1 + 100 * number) for number in range(3)]
    for child in children:
        _, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        edits = store.edits()
        assert [edit.number for edit in edits] == list(range(1, 16))
        assert len({edit.id for edit in edits}) == 15
        assert len(store.active_patches()) == 15
        assert {file.stem for file in (path / "patches").iterdir()} == {edit.id for edit in edits}
