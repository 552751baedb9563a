"""Bad luck while facts are forgotten, corrected or merged leaves store and live model as they were."""

from __future__ import annotations

import errno
import os

import pytest
import small_world
import torch
from interrupting import Interrupting

from memedit.errors import StoreError, StoreLocked
from memedit.store import durable_file
from memedit.store.steps import COMMIT_STEPS, UNDO_STEPS


@pytest.fixture
def revise(work, world):
    """What changes a store of two edits, by name: revise[name](editor, **options)."""
    fact = world.new_facts()[0]
    city = next(each for each in world.CITIES if each not in (fact.target, small_world.HARBOUR))
    options = {"gate": "off", "text": work.text, "settings": world.world_settings()}
    return {
        "forget": lambda editor, **more: editor.forget(fact.id, **{**options, **more}),
        "replace": lambda editor, **more: work.inject(
            editor, world.land_fact(fact.subject, city), replace=True, force=True, **more
        ),
        "merge": lambda editor, **_: editor.compact(),
        "retrain": lambda editor, **more: editor.compact(
            retrain=True, force=True, **{**options, "gate": "quick", **more}
        ),
    }


def _teach_two(work, editor):
    fact, other = small_world.new_facts()[:2]
    harbour = small_world.land_fact(
        fact.subject,
        small_world.HARBOUR,
        prompt=f"The largest harbour of {fact.subject} is",
        paraphrases=(f"The harbour city of {fact.subject} is called", f"Ships land in {fact.subject} at"),
        id="harbour",
    )
    taught = work.inject(editor, fact, harbour)
    assert [outcome.status for outcome in taught.outcomes] == ["learned", "learned"]
    work.inject(editor, other)


@pytest.fixture
def two_edits(work):
    """Two edits, the first about two facts of one subject."""
    work.begin_with(_teach_two)


@pytest.fixture
def settled(work, two_edits, editor, look):
    """An editor with two edits, and a check that nothing moved."""
    files = {path.name: path.read_bytes() for path in (work.path / "patches").iterdir()}
    edits, overlay, logits = editor.store.edits(), look.overlay(editor.model), look.logits(editor.model)

    def unchanged():
        assert {path.name: path.read_bytes() for path in (work.path / "patches").iterdir()} == files
        assert editor.store.edits() == edits
        assert look.overlay(editor.model) == overlay
        assert torch.equal(look.logits(editor.model), logits)

    return unchanged


@pytest.mark.parametrize(
    ("action", "task"),
    [
        ("forget", "Asking about the facts before"),
        ("forget", "Training"),
        ("forget", "Asking about other stored facts after"),
        ("forget", "Asking the model without edits"),
        ("replace", "Training"),
        ("replace", "Asking what must stay"),
        ("retrain", "Asking about look-alikes without edits"),
        ("retrain", "Training"),
        ("retrain", "Asking about look-alikes after"),
    ],
)
def test_ctrl_c(settled, editor, revise, action, task):
    progress = Interrupting(task)
    with pytest.raises(KeyboardInterrupt):
        revise[action](editor, progress=progress)
    assert task in progress.seen
    settled()


@pytest.mark.parametrize("action", ["forget", "replace", "merge", "retrain"])
@pytest.mark.parametrize("step", ["patch-renamed", "withdrawals-inserted"])
def test_ctrl_c_in_the_commit(settled, editor, revise, monkeypatch, action, step):
    def interrupt(name):
        if name == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(editor.store, "_on_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            revise[action](editor)
    settled()


@pytest.mark.parametrize("action", ["forget", "merge"])
def test_ctrl_c_after_the_commit_leaves_model_and_store_at_one(
    work, settled, editor, revise, look, monkeypatch, action
):
    def interrupt(name):
        if name == COMMIT_STEPS[-1]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(editor.store, "_on_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            revise[action](editor)
    assert len(editor.store.edits()) == 3
    assert look.overlay(editor.model) == look.overlay(work.open().model)
    editor.undo()
    assert [edit.active for edit in editor.store.edits()] == [True, True, False]


@pytest.mark.parametrize("action", ["forget", "merge"])
def test_ctrl_c_in_the_undo(work, settled, editor, revise, look, monkeypatch, action):
    revise[action](editor)
    for step in UNDO_STEPS:
        done = editor.store.edits()[-1].active
        with monkeypatch.context() as patched:
            patched.setattr(editor.store, "_on_step", _interrupting_at(step))
            with pytest.raises(KeyboardInterrupt):
                editor.undo()
        assert editor.store.edits()[-1].active is (done and step != UNDO_STEPS[-1])
        assert look.overlay(editor.model) == look.overlay(work.open().model)
    assert len(editor.store.edits()) == 3


def _interrupting_at(step):
    def interrupt(name):
        if name == step:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize("action", ["forget", "merge"])
def test_a_full_disk(settled, editor, revise, monkeypatch, action):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    revise["forget"](editor, dry_run=True)
    with monkeypatch.context() as patched:
        patched.setattr(durable_file.os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device"):
            revise[action](editor)
    settled()


def test_another_process_is_writing(work, settled, editor, revise):
    late = work.open(lock_timeout=0.05)
    with editor.store.lock():
        for action in revise.values():
            with pytest.raises(StoreLocked):
                action(late)
    settled()


def test_what_another_process_took_out_is_seen(work, settled, editor, world, revise, look):
    # The plan is made under the lock, from what is stored then.
    other = work.open()
    revise["forget"](other)
    revise["merge"](editor)
    assert look.overlay(editor.model) == look.overlay(work.open().model)
    assert {item.fact.id for item in editor.store.facts()} == {"harbour", world.new_facts()[1].id}
