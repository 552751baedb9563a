"""Bad luck in the middle of an injection leaves the store and the live model as they were."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import small_world
import torch
from interrupting import Interrupting
from saved_world import HARMFUL, random_patch

from memedit.editor.results import EditRefused
from memedit.errors import FactsError, StoreError, StoreLocked
from memedit.facts import Fact
from memedit.store import durable_file
from memedit.store.steps import COMMIT_STEPS

TASKS = (
    "Asking what is known already",
    "Asking about the facts before",
    "Finding what the model knows",
    "Reading the facts",
    "Preparing the training rows",
    "Training",
    "Asking about the facts after",
    "Asking about look-alikes after",
    "Asking what must stay",
    "Measuring perplexity",
)


@pytest.fixture
def two_facts(world):
    """One fact for an edit that is there, one for the edit that fails."""
    return world.new_facts()[:2]


def _teach_one(work, editor):
    work.inject(editor, small_world.new_facts()[0])


@pytest.fixture
def one_edit(work):
    """One edit, of the first of two facts."""
    work.begin_with(_teach_one)


@pytest.fixture
def settled(work, one_edit, editor, two_facts, look):
    """An editor with one edit, and a check that nothing moved since."""
    store = {path.name: path.read_bytes() for path in (work.path / "patches").iterdir()}
    edits, overlay, logits = editor.store.edits(), look.overlay(editor.model), look.logits(editor.model)

    def unchanged():
        assert {path.name: path.read_bytes() for path in (work.path / "patches").iterdir()} == store
        assert editor.store.edits() == edits
        assert look.overlay(editor.model) == overlay
        assert torch.equal(look.logits(editor.model), logits)
        # The lock is free, and the same injection goes through.
        assert work.inject(editor, two_facts[1]).committed

    return unchanged


@pytest.mark.parametrize("task", TASKS)
def test_ctrl_c(work, settled, editor, two_facts, task):
    progress = Interrupting(task)
    if task == "Finding what the model knows":
        work.text.write_text(
            "Another text, so that what was measured before does not count.", encoding="utf-8"
        )
    with pytest.raises(KeyboardInterrupt):
        work.inject(editor, two_facts[1], progress=progress)
    settled()


def test_ctrl_c_late_in_training(work, settled, editor, two_facts):
    with pytest.raises(KeyboardInterrupt):
        work.inject(editor, two_facts[1], progress=Interrupting("Training", signs=3))
    settled()


# The first three steps come before anything is written, the large patch's step only with large patches.
@pytest.mark.parametrize("step", [step for step in COMMIT_STEPS[:-1] if step != "patch-partly-written"])
def test_ctrl_c_in_the_commit(work, settled, editor, two_facts, monkeypatch, step):
    reached = []

    def interrupt(name):
        reached.append(name)
        # An injection takes the lock before it trains; the commit takes it again inside.
        if name == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(editor.store, "_on_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            work.inject(editor, two_facts[1])
    assert reached[-1] == step
    settled()


def test_ctrl_c_after_the_commit_leaves_model_and_store_at_one(
    work, settled, editor, two_facts, look, monkeypatch
):
    def interrupt(name):
        if name == COMMIT_STEPS[-1]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(editor.store, "_on_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            work.inject(editor, two_facts[1])
    assert look.overlay(editor.model) == look.overlay(work.open().model)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk(work, settled, editor, two_facts, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        # What must be known is measured (and kept) first; the commit then finds the disk full.
        work.inject(editor, two_facts[1], dry_run=True)
        patched.setattr(durable_file.os, call, full)
        with pytest.raises(StoreError, match="No space left on device"):
            work.inject(editor, two_facts[1])
    settled()


# A process of its own that imports the store alone: with this module it would import torch too.
_HOLD_LOCK = """
import sys
from memedit.store import Store
with Store.open(sys.argv[1], fingerprint=None) as store, store.lock():
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_another_process_is_writing(work, settled, editor, two_facts):
    command = [sys.executable, "-c", _HOLD_LOCK, str(work.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        late = work.open(lock_timeout=0.05)
        for refused in (lambda: work.inject(late, two_facts[1]), late.undo):
            with pytest.raises(StoreLocked, match=str(child.pid)):
                refused()
        child.communicate("done\n", timeout=60)
    settled()


def test_the_gate_refuses_and_nothing_is_written(work, settled, editor, two_facts, look, monkeypatch):
    # A perplexity that doubles: every likelihood after the edit counts twice.
    from memedit.editor import transaction

    measure = transaction.measure_perplexity

    def worse(*arguments, **options):
        measured = measure(*arguments, **options)
        return type(measured)(measured.value**2, tuple(2 * nll for nll in measured.nlls), measured.num_tokens)

    with monkeypatch.context() as patched:
        patched.setattr(transaction, "measure_perplexity", worse)
        with pytest.raises(EditRefused, match="perplexity on general text") as refused:
            work.inject(editor, two_facts[1], gate="full")
        edit = refused.value.edit
        assert (edit.id, edit.committed, refused.value.exit_code) == (None, False, 1)
        assert edit.report["gate"]["passed"] is False
        assert edit.report["counts"]["facts"] == 1
        forced = work.inject(editor, two_facts[1], gate="full", force=True)
        assert forced.committed
        assert forced.report["gate"]["passed"] is False
        editor.undo(forced.id)
    assert [edit.active for edit in editor.store.edits()] == [True, False]


@pytest.mark.parametrize("gate", ["quick", "full"])
def test_a_harmful_edit_is_refused_within_the_usual_limits(
    work, settled, editor, world, two_facts, monkeypatch, gate
):
    # Rows without an owner, far larger than any that is trained, break what the model knew.
    from memedit.editor import transaction

    def harm(injection, facts):
        _, result = train(injection, facts)
        return random_patch(scale=HARMFUL, fact_id=facts[0].id), result

    train = transaction.Injection.train
    with monkeypatch.context() as patched:
        patched.setattr(transaction.Injection, "train", harm)
        with pytest.raises(EditRefused, match="retained facts were lost") as refused:
            work.inject(editor, two_facts[1], gate=gate)
    edit = refused.value.edit
    assert (edit.committed, edit.report["gate"]["passed"]) == (False, False)
    lost = edit.report["retained_lost"]
    asked = {world.PROMPT.format(land) for land in (*world.LANDS, *world.NEW_LANDS)}
    assert {item["prompt"] for item in lost} <= asked
    assert len(lost) > edit.report["metrics"]["retained"]["n"] / 4
    settled()


def test_what_a_fact_states_anew_in_another_wording_is_not_lost(work, editor, world, monkeypatch):
    told, anew = world.restated_fact()
    for module in ("measuring", "transaction"):
        monkeypatch.setattr(f"memedit.editor.{module}.well_known_facts", lambda: told)
    edit = work.inject(editor, anew, dry_run=True)
    unlike = replace(anew, id="unlike", relation=None)
    assert (
        edit.report["metrics"]["retained"]["n"] + 1
        == (work.inject(editor, unlike, dry_run=True).report["metrics"]["retained"]["n"])
    )
    assert told[0].prompt not in {item["prompt"] for item in edit.report["retained_lost"]}


@pytest.mark.parametrize("target", ["<|im_end|>", "Lutz<|endoftext|>"])
def test_a_target_that_ends_every_answer_is_refused(work, editor, two_facts, target):
    with pytest.raises(FactsError, match="an answer ends at it") as refused:
        work.inject(editor, replace(two_facts[0], target=target))
    assert refused.value.line == 1
    assert editor.store.edits() in ([], ())


def test_forgetting_is_refused(work, settled, editor, world):
    # Other capitals for lands whose capitals the model knows: that knowledge is lost.
    wrong = []
    for index, land in enumerate(world.LANDS[:6]):
        city = world.CITIES[(world.CITIES.index(world.capital(index)) + 4) % len(world.CITIES)]
        wrong.append(Fact(f"wrong-{index}", world.HELD_OUT.format(land), city, land))
    with pytest.raises(EditRefused, match="retained facts were lost") as refused:
        work.inject(editor, *wrong, gate="full", max_forgetting=0.0, max_perplexity_ratio=1000.0)
    lost = refused.value.edit.report["retained_lost"]
    assert {item["prompt"] for item in lost} & {world.PROMPT.format(land) for land in world.LANDS[:6]}
    settled()
