"""Suites through the editor: made of what a small Llama knows, held against what becomes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from saved_world import HARMFUL, commit_patch, write_facts

from memedit.errors import SuiteError
from memedit.evaluation import read_suite, write_suite
from memedit.evaluation.retention import INJECTED, WELL_KNOWN
from memedit.evaluation.suite_building import SuiteSettings

SEEDS = range(20)


@pytest.fixture
def careful(world):
    """Settings whose gate opens for the subject alone: an edit with them is harmless."""
    settings = world.world_settings()
    return replace(settings, selection=replace(settings.selection, threshold_position=0.9, min_threshold=0.5))


def groups(suite):
    return {group: sum(item.group == group for item in suite.items) for group in suite.groups}


def test_a_suite_of_the_base_model_passes_on_it(editor, world):
    built = editor.build_suite()
    assert groups(built.suite) == {WELL_KNOWN: built.asked[WELL_KNOWN]} == {WELL_KNOWN: len(world.LANDS)}
    assert (built.suite.model, built.suite.edits) == ("small-world", ())
    assert built.suite.fingerprint == editor.store.fingerprint
    result = editor.test(built.suite)
    assert result.passed
    assert [item.now for item in result.items] == [item.baseline for item in built.suite.items]


def test_injected_facts_are_in_the_suite_and_lost_with_their_edit(work, editor, world, careful, tmp_path):
    facts = world.new_facts()[:2]
    edit = work.inject(editor, *facts, settings=careful)
    learned = [outcome.fact for outcome in edit.outcomes if outcome.status == "learned"]
    assert learned
    built = editor.build_suite(
        [write_facts(tmp_path / "our facts.jsonl", [*facts, *world.known_facts()[:3]])]
    )
    assert groups(built.suite)[INJECTED] == len(learned)
    # Learned facts are asked as injected ones.
    assert built.asked["our-facts"] == 3 + len(facts) - len(learned)
    assert groups(built.suite)["our-facts"] <= built.asked["our-facts"]
    assert built.suite.edits == (edit.id,)
    assert editor.test(built.suite).passed
    editor.undo()
    result = editor.test(built.suite, max_loss=0.0)
    assert not result.passed
    assert {item.item.id for item in result.items if item.lost} >= {fact.id for fact in learned}
    lost = next(item for item in result.items if item.item.id == learned[0].id)
    assert lost.item.baseline.text.startswith(learned[0].target)
    assert not lost.now.text.startswith(learned[0].target)
    injected = next(group for group in result.groups if group.name == INJECTED)
    assert len(injected.retention.lost) == len(learned)


def test_a_harmless_edit_passes_with_every_seed(work, editor, world, careful):
    suite = editor.build_suite().suite
    fact, *_ = world.new_facts()
    verdicts, taught = [], 0
    for seed in SEEDS:
        # Refused by the gate, it would raise.
        edit = work.inject(editor, fact, settings=careful, seed=seed, gate=("quick", "full")[seed % 2])
        assert edit.report["gate"]["passed"]
        assert edit.report["metrics"]["retained"]["n"] >= 20
        taught += edit.committed
        verdicts.append(editor.test(suite).passed)
        if edit.committed:
            editor.undo()
    assert verdicts == [True] * len(SEEDS)
    # They did change the model.
    assert taught > len(SEEDS) / 2


def test_noise_in_the_table_passes_with_every_seed(work, editor, look):
    suite = editor.build_suite().suite
    before = look.logits(editor.model)
    for seed in SEEDS:
        commit_patch(work.path, editor.store.fingerprint, scale=1e-3, seed=seed)
        noisy = work.open(read_only=True)
        assert not look.logits(noisy.model).equal(before)
        assert noisy.test(suite).passed
        editor.undo()


@pytest.mark.parametrize("scale", [HARMFUL, 1e30])
def test_a_harmful_edit_fails(work, editor, scale):
    suite = editor.build_suite().suite
    commit_patch(work.path, editor.store.fingerprint, scale=scale)
    result = work.open().test(suite)
    assert not result.passed
    assert result.metric.value < 0.5
    assert result.reasons
    # The store's own suite sees it too.
    assert not work.open().test().passed


def test_the_implied_suite_is_what_the_base_model_knew_and_what_was_learned(work, editor, world, careful):
    base = editor.test()
    assert base.passed
    assert groups(base.suite) == {WELL_KNOWN: base.retention.right_before}
    edit = work.inject(editor, *world.new_facts()[:2], settings=careful)
    result = editor.test()
    assert groups(result.suite)[INJECTED] == edit.report["counts"]["learned"]
    taught = next(item for item in result.suite.items if item.group == INJECTED)
    assert taught.baseline.text == edit.outcomes[0].after
    assert taught.baseline.confidence is None


def test_what_an_edit_states_anew_is_not_in_the_implied_suite(work, editor, world, careful, monkeypatch):
    told, anew = world.restated_fact()
    for module in ("measuring", "testing"):
        monkeypatch.setattr(f"memedit.editor.{module}.well_known_facts", lambda: told)
    edit = work.inject(editor, anew, settings=careful)
    prompts = {item.prompt for item in editor.test().suite.items}
    assert (told[0].prompt in prompts) is (edit.report["counts"]["learned"] == 0)
    assert told[1].prompt in prompts


def test_nothing_known_and_nothing_learned_is_said(editor, monkeypatch):
    for module in ("measuring", "testing"):
        monkeypatch.setattr(f"memedit.editor.{module}.well_known_facts", list)
    with pytest.raises(SuiteError, match="implies no suite"):
        editor.test()
    with pytest.raises(SuiteError, match="answers none of 0 items"):
        editor.build_suite()


def test_a_suite_file_is_taken_as_it_is(editor, tmp_path):
    path = tmp_path / "knowledge.toml"
    write_suite(editor.build_suite(settings=SuiteSettings("group", 0.2, max_items=5, seed=2)).suite, path)
    result = editor.test(path)
    assert (len(result.items), result.overall.max_loss, result.suite.path) == (5, 0.2, path)


def test_only_what_is_new_is_added(work, editor, world, careful, tmp_path):
    suite = editor.build_suite(settings=SuiteSettings(max_items=5)).suite
    facts = write_facts(tmp_path / "more.jsonl", world.known_facts())
    rest = editor.build_suite([facts], present=suite).suite
    assert groups(rest) == {"more": len(world.LANDS) - 5}
    assert not {item.prompt for item in suite.items} & {item.prompt for item in rest.items}
    # The bundled facts that it did not take are not asked again.
    with pytest.raises(SuiteError, match="none of 0 items"):
        editor.build_suite(present=suite)
    edit = work.inject(editor, world.new_facts()[0], settings=careful)
    assert groups(editor.build_suite(present=suite).suite) == {INJECTED: edit.report["counts"]["learned"]}


def test_a_suite_for_another_model_is_refused(editor):
    other = replace(editor.build_suite().suite, model="other", fingerprint="0" * 64)
    with pytest.raises(SuiteError, match=r"made for the model other .* this is the model small-world"):
        editor.test(other)
    with pytest.raises(SuiteError, match="small-world"):
        editor.build_suite(present=other)
    editor.test(replace(other, fingerprint=None))


def test_a_renewed_baseline_is_what_was_just_answered(editor, tmp_path):
    suite = editor.build_suite().suite
    old = replace(
        suite, fingerprint=None, model=None, items=tuple(replace(i, baseline=None) for i in suite.items)
    )
    assert editor.renewed_suite(editor.test(old)) == suite
    write_suite(suite, tmp_path / "k.toml")
    rounded = read_suite(tmp_path / "k.toml")
    assert [item.baseline.text for item in rounded.items] == [item.baseline.text for item in suite.items]
