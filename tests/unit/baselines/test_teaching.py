"""Each method learns, is measured on the way, ships what it changed, and leaves the model as it was."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from memedit.baselines import measuring
from memedit.baselines.methods import METHODS
from memedit.baselines.teaching import Teaching, checkpoints, taught

TRAINED = [name for name in METHODS if name != "rag"]


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def share(result, name):
    values = [value for _, value in result["values"][name]]
    return math.fsum(values) / len(values)


@pytest.mark.parametrize("name", TRAINED)
def test_a_method_learns_and_puts_the_model_back(work, settings, name):
    before, modules = state_of(work.opened.model), [one for one, _ in work.opened.model.named_modules()]
    result = work.run(name, settings[name], 0)
    assert share(result, "trained_wording") >= 0.6
    assert result["trajectory"][-1]["trained"] == share(result, "trained_wording")
    after = work.opened.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [one for one, _ in work.opened.model.named_modules()] == modules
    assert not any(parameter.requires_grad for parameter in work.opened.model.parameters())
    assert not hasattr(work.opened.model, "peft_config")


def test_the_same_seed_teaches_the_same(work, settings):
    first = work.run("lora", settings["lora"], 1)
    work.folder.run("lora", 1).unlink()
    again = work.run("lora", settings["lora"], 1)
    assert first["values"] == again["values"]
    assert first["trajectory"] != work.run("lora", settings["lora"], 2)["trajectory"]


def test_every_method_gets_the_same_rows(work, plan, settings):
    told = {
        name: Teaching(name, work.opened, plan.reported, settings[name], seed=3, editing=work.editing).rows()
        for name in TRAINED
    }
    from memedit.editing.plan import plan_edit

    opened = work.opened
    written = plan_edit(
        opened.model, opened.tokenizer, opened.background, plan.reported, seed=3, settings=work.editing
    )
    assert all(rows == written.rows.rows for rows in told.values())


def test_memory_is_what_an_injection_writes(work, plan, settings, world, tmp_path, monkeypatch):
    from memedit.baselines import sparse_memory
    from memedit.editor.transaction import Injection, Limits
    from memedit.modeling import model_fingerprint
    from memedit.progress import NULL_PROGRESS
    from memedit.store import Store
    from memedit.store.patch_file import encode_patch

    written = []
    monkeypatch.setattr(
        sparse_memory, "encode_patch", lambda patch: written.append(patch) or encode_patch(patch)
    )
    work.run("memory", settings["memory"], 0)
    task, _ = work.before("reported")
    with Store.open(tmp_path / "store", fingerprint=model_fingerprint(work.opened.model)) as store:
        injection = Injection(
            work.opened,
            store,
            seed=0,
            text="",
            settings=world.world_settings(),
            limits=Limits(1.0, 9.0),
            progress=NULL_PROGRESS,
        )
        injected, _ = injection.train(list(task.facts))
    (mine,), (theirs,) = written[0].tables, injected.tables
    assert (mine.slots == theirs.slots).all()
    assert (mine.delta == theirs.delta).all()


def test_what_is_shipped_is_what_changed(work, settings):
    sizes = {name: work.run(name, settings[name], 0)["ship_bytes"] for name in TRAINED}
    config = work.opened.model.config
    assert sizes["locft"] == 4 * config.hidden_size * config.intermediate_size
    assert sizes["full"] == 4 * sum(p.numel() for p in work.opened.model.parameters() if p.ndim) - 4 * sum(
        p.numel() for p in work.opened.model.model.layers[0].memory.parameters()
    )
    assert sizes["memory-tf"] < sizes["memory-all"]
    assert 0 < sizes["lora"] < sizes["full"]


def test_a_trajectory_is_measured_at_its_passes_and_costs_no_training_time(work, plan, settings, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("memedit.baselines.meter.time.perf_counter", lambda: clock.now)
    seen = []

    def after_epoch(epoch, respondent):
        seen.append(epoch)
        clock.now += 1000.0

    teaching = Teaching(
        "locft",
        work.opened,
        plan.reported,
        settings["locft"],
        seed=0,
        editing=work.editing,
        after_epoch=after_epoch,
    )
    with taught(teaching):
        pass
    assert seen == sorted(checkpoints(16))
    assert teaching.meter.seconds == 0.0
    assert teaching.meter.peak_bytes >= teaching.meter.resident_bytes > 0


@pytest.mark.parametrize(("num", "marks"), [(1, {1}), (4, {1, 2, 3, 4}), (12, {1, 2, 3, 5, 8, 12})])
def test_checkpoints_are_dense_first(num, marks):
    assert checkpoints(num) == marks


def test_facts_that_the_model_knows_are_not_taught(work, plan, world):
    known = world.known_facts()[0]
    respondent = Teaching("full", work.opened, (), {}, seed=0).respondent()
    fresh = [*plan.reported, known]
    assert measuring.unknown_facts(respondent, fresh) == list(plan.reported)
