"""Correcting: one edit forgets the old answer and teaches the new one, and undo brings the old one back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from memedit.editor.results import EditRefused
from memedit.errors import FactsError


def other_city(world, fact):
    return next(city for city in world.CITIES if city != fact.target)


@pytest.fixture
def taught(work, editor, world):
    """Two facts that are stored."""
    facts = world.new_facts()[:2]
    assert work.inject(editor, *facts).committed
    return facts


def corrected(world, fact, **changes):
    """The fact as a user corrects it: prompt, subject and a new target, in no other wording."""
    return world.land_fact(
        fact.subject, other_city(world, fact), paraphrases=(), probes=type(fact.probes)(), **changes
    )


def test_a_contradiction_is_refused_with_the_way_out(work, editor, world, taught):
    with pytest.raises(FactsError, match=r"contradicts the stored fact(.|\n)*--replace.*memedit undo e0001"):
        work.inject(editor, corrected(world, taught[0]))


def test_the_new_answer_takes_the_place_of_the_old(work, editor, world, taught, look):
    before = look.logits(editor.model), look.overlay(editor.model)
    new = corrected(world, taught[0])
    edit = work.inject(editor, new, replace=True)
    assert edit.committed, edit.report
    assert editor.ask(new.prompt).text == new.target
    assert editor.ask(taught[1].prompt).text == taught[1].target
    corrections = edit.report["corrections"]
    (told,) = corrections["replaced"]
    assert (told["old_id"], told["old_target"], told["new_target"]) == (
        taught[0].id,
        taught[0].target,
        new.target,
    )
    # The old fact's wordings ask the same question, so that the new answer is measured in them too.
    assert {says: corrections[says]["trained_wording"]["value"] for says in ("says_new", "says_old")} == {
        "says_new": 1.0,
        "says_old": 0.0,
    }
    assert [corrections[says]["held_out_wording"]["n"] for says in ("says_new", "says_old")] == [1, 1]
    assert corrections["says_old"]["held_out_wording"]["value"] == 0.0
    first, second = editor.store.edits()
    assert (second.kind, [(each.edit, each.subject) for each in second.withdraws]) == (
        "replace",
        [(first.id, new.subject)],
    )
    assert {item.fact.id for item in editor.store.facts()} == {new.id, taught[1].id}
    stored = editor.store.find_fact(new.id)
    assert set(stored.fact.paraphrases) == set(taught[0].paraphrases)
    answer = editor.ask(new.prompt)
    assert [(fact.edit_id, fact.fact_id) for fact in answer.facts] == [(edit.id, new.id)]
    assert {item.prompt for item in editor.test().suite.items} >= {new.prompt}
    # One entry of the journal, taken back as a whole.
    assert editor.undo().id == edit.id
    assert look.overlay(editor.model) == before[1]
    assert torch.equal(look.logits(editor.model), before[0])
    editor.redo()
    assert editor.ask(new.prompt).text == new.target


def test_what_shared_the_rows_is_taught_again(work, editor, world, look):
    fact = world.new_facts()[0]
    sibling = world.land_fact(
        fact.subject,
        world.HARBOUR,
        prompt=f"The largest harbour of {fact.subject} is",
        paraphrases=(f"The harbour city of {fact.subject} is called", f"Ships land in {fact.subject} at"),
        id="harbour",
    )
    taught = work.inject(editor, fact, sibling)
    assert [outcome.status for outcome in taught.outcomes] == ["learned", "learned"]
    before = look.overlay(editor.model)
    new = corrected(world, fact)
    edit = work.inject(editor, new, replace=True)
    (again,) = edit.report["taught_again"]
    assert (again["id"], again["status"]) == ("harbour", "learned")
    assert [outcome.fact.id for outcome in edit.outcomes] == [new.id]
    assert [editor.ask(each.prompt).text for each in (new, sibling)] == [new.target, world.HARBOUR]
    editor.undo()
    assert look.overlay(editor.model) == before


def test_a_new_target_that_is_not_learned_leaves_the_old_one(work, editor, world, taught, look):
    before = look.overlay(editor.model)
    lazy = world.world_settings(max_epochs=1, min_epochs=1, learning_rate=1e-9)
    with pytest.raises(EditRefused, match=r"the new target of .* was not learned") as refused:
        work.inject(editor, corrected(world, taught[0]), replace=True, settings=lazy)
    assert refused.value.edit.committed is False
    assert len(editor.store.edits()) == 1
    assert look.overlay(editor.model) == before
    forced = work.inject(editor, corrected(world, taught[0]), replace=True, settings=lazy, force=True)
    assert forced.committed
    assert editor.ask(taught[0].prompt).text != taught[0].target


def test_an_id_that_is_used_for_another_question_replaces_it(work, editor, world):
    fact = replace(world.new_facts()[0], id="mine")
    work.inject(editor, fact)
    moved = replace(world.new_facts()[1], id="mine", paraphrases=world.new_facts()[1].paraphrases)
    with pytest.raises(FactsError, match="the id mine is already used"):
        work.inject(editor, moved)
    edit = work.inject(editor, moved, replace=True)
    assert edit.committed
    # Another question: its wordings are no wordings of the new fact.
    assert fact.prompt not in editor.store.find_fact("mine").fact.paraphrases
    assert editor.ask(moved.prompt).text == moved.target
    assert editor.ask(fact.prompt).text != fact.target


def test_nothing_to_replace_is_a_plain_injection(work, editor, world, taught):
    fact = world.new_facts()[2]
    edit = work.inject(editor, taught[0], fact, replace=True)
    assert edit.outcomes[0].status == "stored"
    assert "corrections" not in edit.report
    assert editor.store.edits()[-1].kind == "inject"
