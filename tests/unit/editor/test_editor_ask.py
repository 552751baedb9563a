"""Asking: the answer, and the stored facts that it rests on; edits switched off for a while."""

from __future__ import annotations

import pytest
import small_world
import torch

from memedit.editor.provenance import subjects_heard
from memedit.errors import StoreError


def _teach_two(work, editor):
    facts = small_world.new_facts()
    return [work.inject(editor, *facts[:6:2]), work.inject(editor, *facts[1:6:2])]


@pytest.fixture
def two_edits(work):
    """Two edits of three facts each; the first of both is one that can be taught for certain."""
    return work.begin_with(_teach_two)


def learned_in(editor, edit):
    """A fact that the edit taught, and that speaks through its own subject's gate.

    With so few slots, what is asked about one land may open another's gate, and be right by chance.
    """
    learned = [outcome.fact for outcome in edit.outcomes if outcome.status == "learned"]
    heard = subjects_heard(editor.model, editor.tokenizer, [fact.prompt for fact in learned])
    found = [fact for fact, subjects in zip(learned, heard, strict=True) if subjects == {fact.subject}]
    assert found, edit.report["not_learned"]
    return found[0]


def test_an_answer_names_the_facts_it_rests_on(two_edits, editor, world):
    for edit in two_edits:
        fact = learned_in(editor, edit)
        answer = editor.ask(fact.prompt)
        assert answer.text.startswith(fact.target)
        assert answer.subject == fact.subject
        assert 0 < answer.mass <= 1
        first = answer.facts[0]
        assert (first.edit_id, first.fact_id, first.target) == (edit.id, fact.id, fact.target)
        assert (first.subject_match, first.likeness, first.states_target) == ("whole", 1.0, True)
        assert first.threshold <= first.mass <= 1
        assert answer.mass == first.mass == max(gate.mass for gate in first.gates)
        assert sum(rest.share for rest in answer.facts) == pytest.approx(1)
        assert answer.unedited is None
        assert answer.to_json()["facts"][0]["prompt"] == fact.prompt


def test_the_tokens_at_which_a_fact_spoke_are_named(two_edits, editor):
    fact = learned_in(editor, two_edits[0])
    gates = editor.ask(fact.prompt).facts[0].gates
    asked = [gate.token for gate in gates if not gate.in_answer]
    assert any(token.strip() and token.strip() in fact.subject for token in asked), gates
    assert all(token in fact.prompt for token in asked)
    assert all(gate.mass >= gate.threshold for gate in gates)


def test_why_asks_the_unedited_model_too(two_edits, editor, look):
    fact, worn = learned_in(editor, two_edits[0]), look.overlay(editor.model)
    answer = editor.ask(fact.prompt, why=True)
    editor.model.set_overlay(0, None)
    assert answer.unedited == editor.ask(fact.prompt).text
    assert answer.text != answer.unedited
    editor._restore()
    assert look.overlay(editor.model) == worn


def test_what_no_edit_taught_rests_on_nothing(two_edits, editor, world):
    answer = editor.ask(f"A walk. {world.PROMPT.format(world.LANDS[0])}")
    if answer.subject is None:
        assert (answer.facts, answer.mass) == ((), 0.0)
    with_nothing = editor.ask("12 34 56")
    assert (with_nothing.subject, with_nothing.facts, with_nothing.mass) == (None, (), 0.0)


def test_without_switches_an_edit_off_and_on_again(two_edits, editor, look):
    fact, worn = learned_in(editor, two_edits[0]), look.overlay(editor.model)
    before = next(o.before for o in two_edits[0].outcomes if o.fact == fact)
    answer = editor.ask(fact.prompt, without=two_edits[0].id)
    assert (answer.without, answer.facts) == (two_edits[0].id, ())
    assert answer.text == before
    assert look.overlay(editor.model) == worn
    assert editor.ask(fact.prompt).text.startswith(fact.target)


def test_without_takes_a_number_and_equals_undo(two_edits, editor, look):
    with editor.without("2") as model:
        assert model is editor.model
        off = look.logits(model)
    editor.undo(two_edits[1].id)
    assert torch.equal(look.logits(editor.model), off)


def test_without_gives_the_edit_back_whatever_happens(two_edits, editor, look, monkeypatch):
    worn = look.overlay(editor.model)
    with pytest.raises(KeyboardInterrupt), editor.without(two_edits[0].id):
        raise KeyboardInterrupt
    assert look.overlay(editor.model) == worn
    with pytest.raises(StoreError):
        editor.ask("Anything", without="e0099")
    assert look.overlay(editor.model) == worn

    def broken(*_, **__):
        raise RuntimeError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr("memedit.editor.asking.generate_answers", broken)
        with pytest.raises(RuntimeError, match="no answer"):
            editor.ask("Anything", without=two_edits[0].id)
    assert look.overlay(editor.model) == worn
    # Nobody listens any more.
    assert not any(layer._forward_pre_hooks for layer in editor.model.memory_layers().values())


def test_a_changed_patch_is_refused_at_once(work, two_edits, editor):
    path = next((work.path / "patches").iterdir())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError):
        editor.ask("Anything", without=two_edits[0].id if path.name > two_edits[1].id else two_edits[1].id)
    with pytest.raises(StoreError):
        work.open()
