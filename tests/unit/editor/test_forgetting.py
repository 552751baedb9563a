"""Forgetting: the fact is gone in every wording, nothing else changes, and undo is exact."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from saved_world import random_patch

from memedit.editor.families import LEARNED
from memedit.editor.results import EditRefused, ForgettingRefused
from memedit.errors import StoreError, UsageError
from memedit.evaluation import GateDecision
from memedit.facts.formats import Records
from memedit.store import NewEdit, compact


@pytest.fixture
def forget(work):
    """Forget with settings for the small model: forget(editor, *facts, **options) -> Edit."""

    def forgotten(editor, *facts, **options):
        import small_world

        names = [fact if isinstance(fact, str) else fact.id for fact in facts]
        options = {"gate": "off", "text": work.text, "settings": small_world.world_settings(), **options}
        return editor.forget(*names, **options)

    return forgotten


def harbour(world, subject):
    """A second fact about a land."""
    return world.land_fact(
        subject,
        world.HARBOUR,
        prompt=f"The largest harbour of {subject} is",
        paraphrases=(
            f"The harbour city of {subject} is called",
            f"Ships land in the harbour of {subject} at",
        ),
        id=f"harbour-{subject}",
    )


def said(editor, *facts):
    return [editor.ask(fact.prompt, max_new_tokens=6).text for fact in facts]


def test_a_fact_of_its_own_subject_is_out_to_the_bit(work, editor, world, forget, look):
    facts = world.new_facts()[:3]
    base = said(editor, *facts), look.logits(editor.model)
    work.inject(editor, facts[0])
    alone = look.logits(editor.model), look.overlay(editor.model)
    work.inject(editor, *facts[1:])
    everything = look.logits(editor.model), look.overlay(editor.model)
    files = {file.name: file.read_bytes() for file in (work.path / "patches").iterdir()}
    edit = forget(editor, *facts[1:])
    assert edit.committed
    # Nothing was subtracted: what is left is the first edit's overlay, and its logits, to the bit.
    assert look.overlay(editor.model) == alone[1]
    assert torch.equal(look.logits(editor.model), alone[0])
    for name, content in files.items():
        assert (work.path / "patches" / name).read_bytes() == content
    assert [item["base"] for item in edit.report["forgotten"]] == base[0][1:]
    metrics = edit.report["metrics"]
    for name in ("as_base_trained_wording", "as_base_held_out_wording", "others_unchanged"):
        assert (metrics[name]["value"], metrics[name]["n"] > 0) == (1.0, True), name
    assert metrics["still_said"]["value"] == 0.0
    assert metrics["retained"]["value"] == 1.0
    assert edit.report["taught_again"] == []
    assert editor.undo().kind == "forget"
    assert look.overlay(editor.model) == everything[1]
    assert torch.equal(look.logits(editor.model), everything[0])
    editor.redo()
    assert look.overlay(editor.model) == alone[1]
    assert look.overlay(work.open().model) == alone[1]
    editor.undo()
    editor.undo()
    editor.undo()
    assert torch.equal(look.logits(editor.model), base[1])


def test_what_is_forgotten_is_neither_tested_nor_named_nor_stored(work, editor, world, forget):
    facts = world.new_facts()[:2]
    first = work.inject(editor, *facts)
    editor.evaluate(families=["facts"], against=None)
    forget(editor, facts[0])
    suite = editor.test().suite
    assert facts[0].prompt not in {item.prompt for item in suite.items if item.group == "injected"}
    assert facts[1].prompt in {item.prompt for item in suite.items if item.group == "injected"}
    answer = editor.ask(facts[1].prompt)
    assert [(fact.edit_id, fact.fact_id) for fact in answer.facts] == [(first.id, facts[1].id)]
    # It speaks again where the forgetting is switched off, and in the state of before.
    forgot = editor.store.edits()[-1].id
    answer = editor.ask(facts[0].prompt, without=forgot)
    assert answer.text == facts[0].target
    assert answer.facts[0].fact_id == facts[0].id
    found = editor.evaluate(on=first.id, against="current", families=["facts", "retained"])
    asked = {sample.cluster for sample in found.states["current"].samples if sample.metric == LEARNED}
    assert asked == {facts[1].id}
    ages = {s.cluster for s in found.states[first.id].samples if s.metric.startswith("retained_age")}
    assert ages == {fact.id for fact in facts}
    # It may be taught again, on the rows that are there now.
    assert work.inject(editor, facts[0]).committed
    with pytest.raises(StoreError, match=f"has taught {facts[0].subject} since"):
        editor.undo(forgot)


def test_two_states_that_forgot_differ(work, editor, world, forget):
    # What is kept of one state must not be taken for the other's.
    facts = world.new_facts()[:2]
    work.inject(editor, *facts)
    answers = []
    for fact in facts:
        forget(editor, fact)
        found = editor.evaluate(
            Records("facts", "memedit", 2, tuple(facts)), families=["facts"], against=None
        )
        right = {s.cluster: s.value for s in found.states["current"].samples if s.metric == LEARNED}
        answers.append([right[each.id] for each in facts])
        editor.undo()
    assert answers == [[0.0, 1.0], [1.0, 0.0]]


def test_facts_that_share_rows_are_taught_again(work, editor, world, forget, look):
    fact, other = world.new_facts()[:2]
    sibling = harbour(world, fact.subject)
    work.inject(editor, fact, sibling, other)
    before = look.overlay(editor.model), said(editor, fact, sibling, other)
    assert before[1] == [fact.target, sibling.target, other.target]
    edit = forget(editor, fact)
    assert edit.committed, edit.report["reasons"]
    (again,) = edit.report["taught_again"]
    assert (again["id"], again["status"], again["after"]) == (sibling.id, "learned", sibling.target)
    assert said(editor, sibling, other) == [sibling.target, other.target]
    assert said(editor, fact) != [fact.target]
    stored = {item.fact.id: item.edit_id for item in editor.store.facts()}
    assert stored[sibling.id] == edit.id
    assert fact.id not in stored
    answer = editor.ask(sibling.prompt)
    assert (answer.facts[0].edit_id, answer.facts[0].fact_id) == (edit.id, sibling.id)
    first = editor.store.edits()[0]
    assert {item.fact.id: item.withdrawn_by for item in editor.store.facts(first.id)} == {
        fact.id: edit.id,
        sibling.id: edit.id,
        other.id: None,
    }
    editor.undo()
    assert (look.overlay(editor.model), said(editor, fact, sibling, other)) == before


def test_a_later_fact_of_the_subject_goes_alone(work, editor, world, forget, look):
    fact = world.new_facts()[0]
    work.inject(editor, fact)
    first = look.overlay(editor.model)
    work.inject(editor, harbour(world, fact.subject))
    both = look.overlay(editor.model)
    edit = forget(editor, f"harbour-{fact.subject}")
    assert edit.report["taught_again"] == []
    assert look.overlay(editor.model) == first
    editor.undo()
    assert look.overlay(editor.model) == both
    # The earlier one lies under the later one, which is taught again without it.
    edit = forget(editor, fact)
    assert [item["id"] for item in edit.report["taught_again"]] == [f"harbour-{fact.subject}"]
    assert [(each.edit, each.subject) for each in editor.store.edits()[-1].withdraws] == [
        (record.id, fact.subject) for record in editor.store.edits()[:2]
    ]
    assert said(editor, harbour(world, fact.subject)) == [world.HARBOUR]


def test_what_shares_rows_and_is_not_learned_again_is_refused(work, editor, world, forget, look, monkeypatch):
    fact = world.new_facts()[0]
    work.inject(editor, fact, harbour(world, fact.subject))
    before = look.overlay(editor.model)
    lazy = world.world_settings(max_epochs=1, min_epochs=1, learning_rate=1e-9)
    with pytest.raises(ForgettingRefused, match="which shares the rows, was not learned again") as refused:
        forget(editor, fact, settings=lazy)
    assert (refused.value.exit_code, refused.value.edit.committed) == (1, False)
    assert len(editor.store.edits()) == 1
    assert look.overlay(editor.model) == before
    edit = forget(editor, fact, settings=lazy, force=True)
    assert edit.committed
    assert edit.report["taught_again"][0]["status"] == "failed"
    editor.undo()
    assert look.overlay(editor.model) == before
    # The whole subject needs no training.
    edit = forget(editor, subjects=[f"  {fact.subject.upper()} "], settings=lazy)
    assert {item["id"] for item in edit.report["forgotten"]} == {fact.id, f"harbour-{fact.subject}"}
    assert editor.model.overlay() is None


def test_an_answer_that_stays_is_refused(work, editor, world, forget, monkeypatch):
    from memedit.editor import forgetting

    fact = world.new_facts()[0]
    work.inject(editor, fact)
    ask_all = forgetting.ask_all

    def stubborn(model, tokenizer, questions, budget, description, progress):
        answered = ask_all(model, tokenizer, questions, budget, description, progress)
        if description != "Asking about the facts after":
            return answered
        return [replace(item, text=fact.target, correct=True) for item in answered]

    monkeypatch.setattr(forgetting, "ask_all", stubborn)
    with pytest.raises(ForgettingRefused, match="is still answered with what was to be forgotten"):
        forget(editor, fact)
    assert len(editor.store.edits()) == 1


def test_forgetting_that_costs_other_knowledge_is_refused(work, editor, world, forget, monkeypatch):
    from memedit.editor import transaction

    fact = world.new_facts()[0]
    work.inject(editor, fact)
    refusal = GateDecision(passed=False, reasons=("5 facts were lost",))
    monkeypatch.setattr(transaction, "gate", lambda *_, **__: refusal)
    with pytest.raises(EditRefused, match="forgetting was refused: 5 facts were lost"):
        forget(editor, fact, gate="quick")
    assert forget(editor, fact, gate="quick", dry_run=True, force=True).committed is False
    assert len(editor.store.edits()) == 1
    assert forget(editor, fact, gate="quick", force=True).report["gate"]["passed"] is False


def test_only_stored_facts_are_forgotten(work, editor, world, forget):
    facts = world.new_facts()[:2]
    work.inject(editor, *facts, replace(harbour(world, facts[0].subject), id=f"{facts[0].id}-too"))
    for names, message in (
        (["nothing"], r"there is no stored fact 'nothing'; stored facts: "),
        ([""], "there is no stored fact ''"),
        ([facts[0].id[:-1]], f"fits 2 stored facts: {facts[0].id}, {facts[0].id}-too"),
    ):
        with pytest.raises(UsageError, match=message):
            forget(editor, *names)
    with pytest.raises(UsageError, match="no stored fact is about 'Atlantis'; stored subjects: "):
        forget(editor, subjects=["Atlantis"])
    assert forget(editor, facts[1].id[:8], dry_run=True).outcomes[0].fact == facts[1]
    forget(editor, facts[1])
    with pytest.raises(UsageError, match="there is no stored fact"):
        forget(editor, facts[1])


def test_rows_without_an_owner_cannot_be_told_to_be_a_facts(work, editor, world, forget):
    fact = world.land_fact("Zubrow", "Lutz")
    patch = random_patch(scale=0.01, fact_id=fact.id)
    outcome = {"fact_id": fact.id, "status": "learned", "before": "", "after": fact.target}
    editor.store.commit(NewEdit((fact,), (outcome,), patch, {}, 0, "2026-01-02T03:04:05+00:00"))
    with pytest.raises(UsageError, match=r"rows that belong to no subject.*\n.*memedit undo e0001"):
        forget(editor, fact)


def test_what_was_compacted_is_forgotten_for_good(work, editor, world, forget, look):
    facts = world.new_facts()[:2]
    for fact in facts:
        work.inject(editor, fact)
    alone = look.overlay(work.open().model)
    record = compact(editor.store)
    assert look.overlay(work.open().model) == alone
    answer = editor.ask(facts[0].prompt)
    assert [(fact.edit_id, fact.fact_id) for fact in answer.facts] == [(record.id, facts[0].id)]
    edit = forget(editor, facts[0])
    assert {item.fact.id for item in editor.store.facts()} == {facts[1].id}
    with pytest.raises(StoreError, match=rf"edit {edit.id} \(forget\) has taken facts out of it"):
        editor.undo(record.id)
