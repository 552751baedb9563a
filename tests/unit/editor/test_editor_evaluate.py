"""Editor.evaluate: states side by side, every family, and answers that are kept."""

from __future__ import annotations

import json

import pytest
import small_world

from memedit.editor.evaluating import States
from memedit.editor.families import FAMILIES
from memedit.errors import UsageError
from memedit.evaluation.respondent import ModelRespondent
from memedit.reports.evaluation import write_samples


def _teach_two(work, editor):
    for fact in small_world.new_facts()[:2]:
        work.inject(editor, fact)


@pytest.fixture
def taught(work):
    """An editor with two edits."""
    work.begin_with(_teach_two)
    return work.open()


def test_base_and_current_side_by_side(taught):
    found = taught.evaluate(families=["facts", "retained", "health", "perplexity"], text=None)
    assert list(found.states) == ["base", "current"]
    before, after = (found.states[name].metric("learned_exact_match").value for name in ("base", "current"))
    assert (before, after) == (0.0, 1.0)
    changed = found.differences.metric("learned_exact_match")
    assert (changed.value, changed.n) == (1.0, 2)
    assert found.differences.metric("perplexity_ratio").n > 0
    assert found.states["current"].metric("slot_usage").value > 0
    with pytest.raises(KeyError):
        found.states["base"].metric("slot_usage")


def test_a_state_after_an_edit_wears_that_edit_and_those_before(taught):
    first, second = (edit.id for edit in taught.store.edits())
    states = States(taught._opened, taught.store)
    assert states.edits("base") == []
    assert states.edits(first) == [first]
    assert states.edits("current") == states.edits(second) == [first, second]
    assert len({states.identity(name) for name in ("base", first, second)}) == 3
    assert states.identity("current") == states.identity(second)
    found = taught.evaluate(on=first, against=None, families=["facts"])
    assert found.states[first].metric("learned_exact_match").value == 0.5
    assert found.differences.metrics == ()
    taught.undo(second)
    with pytest.raises(UsageError, match=f"edit {second} is undone"):
        states.edits(second)


def test_the_model_wears_what_it_wore_when_all_is_done(taught):
    before = taught.model.overlay()
    taught.evaluate(families=["facts"])
    assert taught.model.overlay().slots.tolist() == before.slots.tolist()


def test_a_second_evaluation_asks_nothing(taught, monkeypatch):
    families = ["facts", "retained", "hallucination", "lifelong", "perplexity", "health"]
    first = taught.evaluate(families=families)

    def refuse(*_, **__):
        raise AssertionError("asked again")

    monkeypatch.setattr(ModelRespondent, "answer", refuse)
    monkeypatch.setattr(ModelRespondent, "score", refuse)
    monkeypatch.setattr("memedit.editor.families.measure_perplexity", refuse)
    for measure in ("prompt_routings", "residual_rms"):
        monkeypatch.setattr(f"memedit.editor.memory_measures.{measure}", refuse)
    assert json.dumps(taught.evaluate(families=families).to_json()) == json.dumps(first.to_json())


def test_every_family_measures_or_says_why_not(taught):
    found = taught.evaluate(families=list(FAMILIES), against=None)
    measured = found.states["current"]
    names = {metric.name for metric in measured.metrics}
    assert {"learned_exact_match", "retained", "look_alike_assertion_rate", "fluency", "perplexity"} <= names
    assert {"slick_unknown", "slot_collision_rate", "expected_calibration_error"} <= names
    assert {"taught_auroc_membership", "backward_transfer", "written_row_norm_ratio"} <= names
    assert any("questions were not measured" in note for note in measured.notes)
    for metric in measured.metrics:
        assert metric.protocol
        assert metric.n >= 0


def test_the_retention_matrix_is_what_every_state_on_the_way_answers(taught, world):
    found = taught.evaluate(families=["lifelong"])
    matrix = found.to_json()["states"]["current"]["retention_matrix"]
    assert matrix["sizes"] == [1, 1]
    first, second = (edit.id for edit in taught.store.edits())
    facts = world.new_facts()[:2]
    for update, edit in enumerate((first, second)):
        asked = taught.evaluate(on=edit, against=None, families=["facts"]).states[edit].samples
        right = {one.cluster: one.value for one in asked if one.metric == "learned_exact_match"}
        expected = [right[fact.id] for fact in facts[: update + 1]]
        assert matrix["scores"][update] == [*expected, *[None] * (1 - update)]
    assert matrix["scores"][0][0] == 1
    transfer = found.states["current"].metric("backward_transfer")
    assert (transfer.value, transfer.n) == (matrix["scores"][1][0] - matrix["scores"][0][0], 1)
    assert found.to_json()["states"]["base"]["retention_matrix"] is None
    assert "the retention matrix was not measured: base wears no edit" in found.states["base"].notes


def test_membership_tells_taught_subjects_from_look_alikes(taught, look):
    worn = look.overlay(taught.model)
    found = taught.evaluate(families=["hallucination"])
    auroc = found.states["current"].metric("taught_auroc_membership")
    # The first subject's look-alikes and the second's: each is made to resemble a taught one.
    assert auroc.n > 2
    assert auroc.value > 0.6
    with pytest.raises(KeyError):
        found.states["base"].metric("taught_auroc_membership")
    assert look.overlay(taught.model) == worn


def test_results_are_split_by_what_the_model_knew_before(taught):
    found = taught.evaluate(families=["facts", "slick"]).states["current"]
    shares = {metric.name: metric for metric in found.metrics}
    parts = [metric for name, metric in shares.items() if name.startswith("learned_exact_match[")]
    assert sum(part.n for part in parts) == shares["learned_exact_match"].n == 2
    right = sum(part.value * part.n for part in parts)
    assert right == shares["learned_exact_match"].value * 2
    unknown = shares.get("learned_exact_match[Unknown]")
    assert (unknown.n if unknown else 0) == round(2 * shares["slick_unknown"].value)


def test_samples_have_both_texts(taught, tmp_path):
    found = taught.evaluate(families=["facts"])
    number = write_samples(tmp_path / "samples.jsonl", found.states)
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == number
    line = next(one for one in lines if one["metric"] == "learned_exact_match")
    assert (line["verdict_before"], line["verdict_after"]) == (0.0, 1.0)
    assert line["before"] != line["after"]
    assert line["expected"]


def test_a_state_is_not_compared_with_itself_under_another_name(taught):
    first, second = (edit.id for edit in taught.store.edits())
    for on, against, edit in (("1", first, first), ("current", "e0002", second)):
        with pytest.raises(UsageError, match=f"'{on}' and '{against}' are the model after edit {edit}"):
            taught.evaluate(on=on, against=against, families=["health"])
    taught.undo(second)
    with pytest.raises(UsageError, match=f"edit {second} is undone"):
        taught.evaluate(on="1", against="2", families=["health"])
    with pytest.raises(UsageError, match=f"are the model after edit {first}"):
        taught.evaluate(against="1", families=["health"])
    assert list(taught.evaluate(on="1", families=["health"]).states) == ["base", "1"]


def test_an_unknown_family_is_refused(taught):
    with pytest.raises(UsageError, match="family: got 'everything'"):
        taught.evaluate(families=["everything"])
