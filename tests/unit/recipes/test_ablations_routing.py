"""The simulated gates of the ablation recipe against real edits of the small world."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import small_world
import torch


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """Four new lands and what is asked about them."""
    from memedit.modeling import model_fingerprint
    from memedit.store import Store

    recipe = importlib.import_module("ablations")
    measures = importlib.import_module("lifelong_measures")
    monkeypatch.setattr(measures, "well_known_facts", small_world.known_facts)
    opened = small_world.opened_world()
    facts = small_world.new_facts()[:4]
    with Store.open(tmp_path / "store", fingerprint=model_fingerprint(opened.model)) as store:
        yield recipe.bench_of(opened, store, facts, recipe.Plan(num=4, look_alikes=12), None, None)


@pytest.fixture
def gates(bench):
    """The simulation."""
    return importlib.import_module("ablation_routing").Gates(bench)


def chosen(**changes):
    settings = small_world.world_settings()
    return replace(settings, selection=replace(settings.selection, **changes))


@pytest.mark.parametrize("changes", [{}, {"contrast": 0.0, "hard_tokens": 0}])
def test_the_gates_are_those_that_a_real_edit_gets(bench, gates, changes):
    from memedit.editing.delta import Delta
    from memedit.editing.plan import plan_edit
    from memedit.editor.overlays import composed_overlay, patch_of, wearing
    from memedit.editor.provenance import subjects_heard

    settings = chosen(**changes)
    opened = bench.opened
    plan = plan_edit(
        opened.model, opened.tokenizer, opened.background, bench.facts, seed=bench.seed, settings=settings
    )
    subjects, selection = gates.selection(settings)
    assert subjects == plan.rows.subjects
    assert torch.equal(selection.slots, plan.selection.slots)
    assert torch.equal(selection.owners, plan.selection.owners)
    assert torch.equal(selection.thresholds, plan.selection.thresholds)
    # And at every prompt the model itself hears what was simulated.
    blank = Delta.blank(len(selection.slots), opened.model.config.value_dim)
    prompts = [one.prompt for one in bench.yardstick.look_alikes]
    prompts += [question.prompt for question in bench.yardstick.suite]
    with wearing(opened.model, composed_overlay(opened.model, [patch_of(plan, blank, {})])):
        heard = subjects_heard(opened.model, opened.tokenizer, prompts)
        found = gates.measure(settings)
        asked = importlib.import_module("lifelong_measures").all_questions(bench.facts, bench.seed)
        own = subjects_heard(opened.model, opened.tokenizer, [question.prompt for question in asked])
    named = {fact.id: fact.subject for fact in bench.facts}
    for group in ("trained_wording", "held_out_wording", "after_unseen_sentence"):
        expected = [
            float(named[question.fact_id] in names)
            for question, names in zip(asked, own, strict=True)
            if question.group == group
        ]
        assert [value for _, value in found["items"][group]] == expected, group
    simulated = [value for name in ("look_alike", *known_groups(bench)) for _, value in found["items"][name]]
    assert simulated == [float(bool(names)) for names in heard]
    assert found["metrics"]["trained_wording"]["value"] > 0


def known_groups(bench):
    return dict.fromkeys(question.group for question in bench.yardstick.suite)


def test_a_gate_that_asks_for_less_opens_more(gates):
    def opened(**changes):
        found = gates.measure(chosen(given_share=1e6, **changes))["items"]
        return sum(value for items in found.values() for _, value in items)

    shut = opened(min_threshold=0.9)
    assert shut < opened(min_threshold=0.01, threshold_position=0.0)
    assert shut <= opened(min_threshold=0.1, threshold_position=0.3)


def test_settings_without_gates_or_with_the_same_ones_are_not_simulated():
    found = importlib.import_module("ablation_variants")
    tried = found.variants(small_world.world_settings())
    differing = [one.name for one in tried if one.gates_differ(tried[0].settings)]
    assert "contrast=0" in differing
    assert "num_decoys=0" in differing
    assert not {"default", "margin=0.8", "learning_rate/2", "ranking=tf", "ranking=all"} & set(differing)
