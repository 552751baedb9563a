"""Recall with parts of the memory taken away, on a model whose table holds some facts and not others."""

from __future__ import annotations

import pytest
import small_world
import table_world
import torch

from memedit.evaluation import table_recall
from memedit.evaluation.table_recall import recall_by_table, wording_questions
from memedit.modeling import Overlay

GROUPS = ["trained_wording", "held_out_wording"]


@pytest.fixture
def opened():
    """The small world whose new lands are in base rows."""
    return table_world.table_world()


def asked(opened, facts, **more):
    return recall_by_table(opened.model, opened.tokenizer, wording_questions(facts), **more)


def shares(found, state):
    return [metric.value for metric in found.recall(state)]


def test_what_is_in_the_table_falls_with_it(opened):
    rows = opened.model.memory_tables()[0].values.detach().clone()
    found = asked(opened, table_world.table_facts())
    assert list(found.answered) == ["as_it_is", "zeroed", "shuffled"]
    assert min(shares(found, "as_it_is")) >= 7 / 8
    assert max(shares(found, "zeroed")) == 0
    assert max(shares(found, "shuffled")) <= 4 / 8
    for metric, share in zip(found.difference("zeroed"), shares(found, "as_it_is"), strict=True):
        assert metric.value == -share
        assert metric.high < 0
    assert torch.equal(opened.model.memory_tables()[0].values, rows)


def test_what_is_in_the_dense_part_stays(opened):
    found = asked(opened, small_world.known_facts()[:12])
    assert min(shares(found, "as_it_is")) >= 11 / 12
    assert shares(found, "zeroed") == [1, 1]
    for metric in found.difference("zeroed"):
        assert metric.low < 0 < metric.high


def test_numbers_have_protocol_n_and_interval(opened):
    found = asked(opened, table_world.table_facts(), seed=3)
    for state in found.answered:
        assert [metric.name for metric in found.recall(state)] == GROUPS
        for metric in found.recall(state):
            assert metric.n == 8
            assert metric.low <= metric.value <= metric.high
            assert metric.low < metric.high
            assert "greedy generation" in metric.protocol
    (trained, held_out) = found.difference("shuffled")
    assert "base rows shuffled minus as it is, paired bootstrap over facts" in trained.protocol
    assert (trained.n, held_out.n) == (8, 8)
    shown = found.to_json()
    assert shown["seed"] == 3
    assert shown["states"]["as_it_is"]["difference"] == []
    assert shown["notes"] == ["no rows are written: there is nothing to take off"]


def test_edits_are_taken_off_too(opened):
    facts = table_world.table_facts()[:3]
    slots = torch.arange(opened.model.config.num_slots)
    noise = torch.randn(len(slots), 64, generator=torch.Generator().manual_seed(0)) * 30
    owners = torch.full((len(slots),), -1)
    opened.model.set_overlay(0, Overlay(slots, noise, owners, torch.zeros(0)))
    found = asked(opened, facts)
    assert list(found.answered) == ["as_it_is", "zeroed", "shuffled", "unwritten"]
    assert max(shares(found, "as_it_is")) < 1
    opened.model.set_overlay(0, None)
    alone = asked(opened, facts)
    assert found.answered["unwritten"] == alone.answered["as_it_is"]


def test_an_error_leaves_the_model_as_it_was(opened, monkeypatch):
    values = opened.model.memory_tables()[0].values
    rows, real, calls = values.detach().clone(), table_recall.answer_questions, []

    def failing(*arguments, **options):
        calls.append(not torch.equal(values, rows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(table_recall, "answer_questions", failing)
    with pytest.raises(KeyboardInterrupt):
        asked(opened, table_world.table_facts()[:2])
    assert calls == [False, True, True]
    assert torch.equal(values, rows)


def test_a_retrofit_without_edits_has_nothing_to_take_out():
    found = asked(small_world.opened_world(), small_world.known_facts()[:2])
    assert list(found.answered) == ["as_it_is"]
    assert [note.partition(":")[0] for note in found.notes] == [
        "the base table is empty (a retrofit)",
        "no rows are written",
    ]


def test_questions_are_needed(opened):
    with pytest.raises(ValueError, match="questions: got none, expected at least one"):
        asked(opened, [])
