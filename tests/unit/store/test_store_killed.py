"""Whatever kills the process at whatever moment: an edit is wholly in the store or not at all."""

import random
import signal
import time

import pytest

from memedit.errors import StoreError
from memedit.store import Store, compose
from memedit.store.steps import COMMIT_STEPS, CREATE_STEPS, UNDO_STEPS


def require_sound(path, factory, bits_of_first=None):
    """Read everything, then write: the store is whole, usable, and holds what its journal says."""
    with Store.open(path, fingerprint=factory.FINGERPRINT, lock_timeout=0) as store:
        patches = store.active_patches()
        if bits_of_first is not None:
            assert patches[0].tables[0].delta.tobytes() == bits_of_first
        num_edits = len(store.edits())
        with store.lock():
            pass
        assert {file.stem for file in (path / "patches").iterdir()} == {edit.id for edit in store.edits()}
        assert [edit.number for edit in store.edits()] == list(range(1, num_edits + 1))
        assert len(store.facts()) == len(patches)


def test_every_step_is_reported_in_order(path, factory):
    seen = []
    with Store.open(path, fingerprint=factory.FINGERPRINT, on_step=seen.append) as store:
        assert tuple(seen) == CREATE_STEPS
        for action, steps in (
            (lambda: store.commit(factory.make_large_edit()), COMMIT_STEPS),
            (store.undo, UNDO_STEPS),
            (store.redo, UNDO_STEPS),
        ):
            seen.clear()
            action()
            assert tuple(seen) == steps


@pytest.mark.parametrize("step", CREATE_STEPS)
def test_killed_while_the_store_is_made(path, factory, start_child, step):
    child = start_child("create_and_die", path, step)
    assert child.wait(timeout=60) == -signal.SIGKILL, child.stderr.read()
    require_sound(path, factory)
    assert sorted(file.name for file in path.iterdir()) == ["journal.sqlite", "lock", "patches"]


@pytest.mark.parametrize("step", COMMIT_STEPS)
def test_killed_in_a_commit(path, factory, start_child, step):
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        first = factory.make_large_edit(1)
        store.commit(first)
    child = start_child("commit_and_die", path, step)
    assert child.wait(timeout=60) == -signal.SIGKILL, child.stderr.read()
    with Store.open(path, fingerprint=factory.FINGERPRINT, read_only=True) as store:
        assert len(store.edits()) == (2 if step == "transaction-committed" else 1)
        assert len(store.active_patches()) == len(store.edits())
    require_sound(path, factory, first.patch.tables[0].delta.tobytes())
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        store.commit(factory.make_large_edit(3))
    require_sound(path, factory)


SMALL_COMMIT_STEPS = tuple(step for step in COMMIT_STEPS if step != "patch-partly-written")


@pytest.mark.parametrize("action", ["forget_and_die", "compact_and_die"])
@pytest.mark.parametrize("step", SMALL_COMMIT_STEPS)
def test_killed_while_earlier_edits_are_withdrawn(path, factory, start_child, bits, action, step):
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        for number in (1, 2):
            store.commit(factory.make_edit(number))
        before = bits(compose(store.active_patches(), 4, 1))
    child = start_child(action, path, step)
    assert child.wait(timeout=60) == -signal.SIGKILL, child.stderr.read()
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        done = step == "transaction-committed"
        assert len(store.edits()) == 2 + done
        forgot = done and action == "forget_and_die"
        assert len(store.facts()) == (1 if forgot else 2)
        assert (bits(compose(store.active_patches(), 4, 1)) == before) is not forgot
        if done:
            store.undo()
        assert bits(compose(store.active_patches(), 4, 1)) == before
        with store.lock():
            pass
        assert {file.stem for file in (path / "patches").iterdir()} == {edit.id for edit in store.edits()}


@pytest.mark.parametrize("step", UNDO_STEPS)
def test_killed_in_an_undo(path, factory, start_child, step):
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        store.commit(factory.make_edit(1))
    child = start_child("undo_and_die", path, step)
    assert child.wait(timeout=60) == -signal.SIGKILL, child.stderr.read()
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        assert store.edit("1").active == (step != "transaction-committed")
    require_sound(path, factory)


def test_killed_at_any_time_keeps_what_was_confirmed(path, factory, start_child):
    rng = random.Random(0)
    confirmed = 0
    for attempt in range(5):
        child = start_child("commit_forever", path, 1 + 1000 * attempt)
        names = [child.stdout.readline().strip()]
        assert names[0], child.stderr.read()
        time.sleep(rng.uniform(0, 0.15))
        child.kill()
        names += child.communicate()[0].split()
        confirmed += len(names)
        with Store.open(path, fingerprint=factory.FINGERPRINT, read_only=True) as store:
            edits = store.edits()
            # One more may have been committed without time to say so.
            assert confirmed <= len(edits) <= confirmed + 1
            assert set(names) <= {edit.id for edit in edits}
            confirmed = len(edits)
        require_sound(path, factory)


@pytest.mark.parametrize("step", COMMIT_STEPS)
def test_interrupted_in_a_commit(path, factory, step):
    def interrupt(name):
        if name == step:
            raise KeyboardInterrupt

    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        store.commit(factory.make_large_edit(1))
    with Store.open(path, fingerprint=factory.FINGERPRINT, on_step=interrupt) as store:
        with pytest.raises(KeyboardInterrupt):
            store.commit(factory.make_large_edit(2))
        assert len(store.edits()) == (2 if step == "transaction-committed" else 1)
        # Nothing waits for the next writer: there was time to tidy up.
        assert {file.stem for file in (path / "patches").iterdir()} == {edit.id for edit in store.edits()}
    require_sound(path, factory)


def test_files_that_no_commit_left_are_not_removed(path, factory):
    patches = path / "patches"
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        store.commit(factory.make_edit(1))
        kept = [patches / name for name in ("notes.txt", "mine.safetensors", "e0001-aaaaaa.safetensors")]
        kept.append(patches / "e0007-aaaaaa.safetensors")
        leftovers = [patches / "e0002-aaaaaa.safetensors", patches / ".e0002-bbbbbb.safetensors.12.tmp"]
        for file in (*kept, *leftovers):
            file.write_bytes(b"x")
        store.undo()
        assert [file.exists() for file in leftovers] == [False, False]
        assert all(file.exists() for file in kept)


def test_patches_without_their_journal_are_not_thrown_away(path, factory):
    with Store.open(path, fingerprint=factory.FINGERPRINT) as store:
        record = store.commit(factory.make_edit(1))
    (path / "journal.sqlite").unlink()
    with pytest.raises(StoreError, match=r"holds patches but its journal journal.sqlite is gone"):
        Store.open(path, fingerprint=factory.FINGERPRINT)
    assert (path / "patches" / f"{record.id}.safetensors").exists()
    assert not (path / "journal.sqlite").exists()
