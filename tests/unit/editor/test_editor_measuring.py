"""What is measured around an edit, what is kept of it, and the regression test of everything taught."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from memedit.editor import measuring


@pytest.fixture
def facts(world):
    """Three facts."""
    return world.new_facts()[:3]


@pytest.fixture
def num_measured(monkeypatch):
    """Counts how often the whole suite is asked."""
    calls = []
    answer_known = measuring.answer_known

    def counted(model, tokenizer, questions, **options):
        calls.append(len(questions))
        return answer_known(model, tokenizer, questions, **options)

    monkeypatch.setattr(measuring, "answer_known", counted)
    return calls


@pytest.fixture
def texts_read(monkeypatch):
    """The texts whose perplexity was measured before an edit."""
    read = []
    measure = measuring.measure_perplexity

    def noted(model, tokenizer, text, **options):
        read.append(text)
        return measure(model, tokenizer, text, **options)

    monkeypatch.setattr(measuring, "measure_perplexity", noted)
    return read


def test_metrics_are_honest(work, editor, facts, world):
    edit = work.inject(editor, *facts)
    metrics, counts = edit.report["metrics"], edit.report["counts"]
    right = sum(outcome.status == "learned" for outcome in edit.outcomes)
    assert metrics["trained_wording"]["value"] == pytest.approx(right / len(facts))
    assert metrics["trained_wording"]["n"] == metrics["held_out_wording"]["n"] == len(facts)
    held_out = sum(sum(outcome.held_out) for outcome in edit.outcomes)
    assert metrics["held_out_wording"]["value"] == pytest.approx(held_out / len(facts))
    # The suite is what the model was trained on, and it knows nearly all of it.
    assert len(world.LANDS) - 3 <= metrics["retained"]["n"] <= len(world.LANDS)
    assert metrics["retained"]["value"] == pytest.approx(
        1 - len(edit.report["retained_lost"]) / metrics["retained"]["n"]
    )
    assert counts["learned"] + counts["failed"] == len(facts)
    assert len(edit.report["not_learned"]) == counts["failed"]
    assert json.loads(json.dumps(edit.report, allow_nan=False))["metrics"] == metrics


def test_the_base_model_is_asked_once(work, editor, facts, num_measured):
    work.inject(editor, facts[0], dry_run=True)
    assert len(num_measured) == 1
    work.inject(editor, facts[0], dry_run=True)
    work.inject(editor, facts[1], dry_run=True)
    editor.close()
    work.inject(work.open(), facts[0])
    assert len(num_measured) == 1


def test_every_state_of_the_model_is_measured_for_itself(work, editor, facts, num_measured, texts_read):
    work.inject(editor, facts[0])
    work.inject(editor, facts[1])
    assert len(num_measured) == 2
    editor.undo()
    work.inject(editor, facts[2], dry_run=True)
    assert len(num_measured) == 2
    work.text.write_text("Another text for another perplexity, which nobody has measured.", encoding="utf-8")
    assert len(texts_read) == 2
    work.inject(editor, facts[2], dry_run=True)
    # The questions are the same, so that only the text is read.
    assert (len(num_measured), len(texts_read)) == (2, 3)


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"version": 1}'])
def test_a_damaged_measurement_is_made_afresh(work, editor, facts, num_measured, damage):
    first = work.inject(editor, facts[0], dry_run=True)
    entries = list(editor.store.cache_dir.glob("baseline-*.json"))
    # The answers and the perplexity.
    assert len(entries) == 2
    for entry in entries:
        entry.write_text(damage, encoding="utf-8")
    second = work.inject(editor, facts[0], dry_run=True)
    assert len(num_measured) == 2
    assert second.report["metrics"] == first.report["metrics"]


def test_later_edits_must_keep_what_earlier_ones_taught(work, editor, facts):
    first = work.inject(editor, *facts[:2])
    second = work.inject(editor, facts[2])
    learned, lost = first.report["counts"]["learned"], len(first.report["retained_lost"])
    assert learned > 0
    before, after = (edit.report["metrics"]["retained"]["n"] for edit in (first, second))
    assert after == before + learned - lost


def test_the_regression_test_reports_a_lost_fact(work, editor, facts, monkeypatch):
    monkeypatch.setattr(
        "memedit.editor.session.general_text", lambda _=None: work.text.read_text(encoding="utf-8")
    )
    edit = work.inject(editor, *facts)
    learned = [outcome.fact for outcome in edit.outcomes if outcome.status == "learned"]
    assert learned
    whole = editor.test()
    assert whole.retention.right_before >= len(learned)
    assert {change.question.fact_id for change in whole.lost}.isdisjoint({fact.id for fact in learned})
    # The slots' values are lost behind the store's back.
    overlay = editor.model.overlay()
    broken = replace(overlay, values=torch.zeros_like(overlay.values))
    editor.model.set_overlay(0, broken)
    lost = editor.test().lost
    assert {fact.id for fact in learned} <= {change.question.fact_id for change in lost}
    change = next(change for change in lost if change.question.fact_id == learned[0].id)
    assert change.before.startswith(learned[0].target)
    assert not change.after.startswith(learned[0].target)


def test_the_regression_test_leaves_the_model_as_it_was(work, editor, facts, look, num_measured):
    work.inject(editor, facts[0])
    worn = look.overlay(editor.model)
    editor.test()
    assert look.overlay(editor.model) == worn
    # The base model was measured before the first edit.
    assert len(num_measured) == 1
