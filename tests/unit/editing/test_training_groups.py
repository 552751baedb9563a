"""Training in groups: every row and slot in one of them, and each subject learns what it learns alone."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from memedit.editing.delta import Delta
from memedit.editing.plan import plan_edit, train_plan
from memedit.editing.training import TrainedDelta
from memedit.editing.training_groups import joined, training_groups


class Described:
    """Keeps what tasks were described as."""

    def __init__(self):
        self.described = []

    @contextmanager
    def task(self, description, total):
        self.described.append(description)
        yield self

    def advance(self, n=1):
        pass

    def describe(self, description):
        self.described.append(description)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_rows_and_slots_are_parted_by_subject(size):
    # Subject 1 has two facts; slots 4 and 7 are its own.
    facts, owners = [0, 0, 1, 2, 3, 3, 4], [0, 0, 1, 1, 2, 2, 3]
    slot_owners = torch.tensor([0, 2, 0, 3, 1, 2, 2, 1])
    groups = training_groups(facts, owners, slot_owners, size)
    assert sorted(row for group in groups for row in group.rows) == list(range(7))
    assert sorted(torch.cat([group.slots for group in groups]).tolist()) == list(range(8))
    for group in groups:
        read = {owners[row] for row in group.rows}
        assert set(slot_owners[group.slots].tolist()) == read
        assert group.slots.tolist() == sorted(group.slots.tolist())
        assert len({facts[row] for row in group.rows}) <= size or len(read) == 1
    assert len(groups) == {1: 4, 2: 3, 3: 2, 100: 1}[size]


def test_slots_without_an_owner_leave_one_group():
    (group,) = training_groups([0, 1], [0, 1], torch.tensor([0, -1, 1]), 1)
    assert group.rows == (0, 1)
    assert group.slots.tolist() == [0, 1, 2]


def test_an_edit_without_slots_has_a_group():
    (group,) = training_groups([0, 1], [0, 1], torch.empty(0, dtype=torch.int64), 5)
    assert (group.rows, len(group.slots)) == ((0, 1), 0)


def test_what_was_trained_is_put_together():
    groups = training_groups([0, 1, 1], [0, 1, 1], torch.tensor([1, 0, 1]), 1)

    def trained(value, fact, losses, reads):
        learned = torch.arange(2) == fact
        delta = Delta(torch.full((1, 2), value), torch.zeros(len(groups[fact].slots), dtype=torch.int64))
        return TrainedDelta(delta, learned, learned.long() * (3 + fact), losses, reads)

    found = joined(groups, [trained(1.0, 0, (4.0, 2.0), 5), trained(2.0, 1, (1.0,), 7)], 3)
    assert found.delta.dense().tolist() == [[2.0, 2.0], [1.0, 1.0], [2.0, 2.0]]
    assert found.learned.tolist() == [True, True]
    assert found.epochs.tolist() == [3, 4]
    # One row has a loss of 4 in the first pass, two have 1; only the first group came to a second pass.
    assert found.losses == ((4.0 + 2 * 1.0) / 3, 2.0)
    assert found.num_reads == 12


def test_subjects_learn_in_groups_what_they_learn_together(world):
    opened, facts = world.opened_world(), world.new_facts()[:3]
    settings, told, found = world.world_settings(), Described(), []
    opened.model.set_overlay(0, None)
    plan = plan_edit(opened.model, opened.tokenizer, opened.background, facts, seed=0, settings=settings)
    overlay = plan.selection.blank_overlay(opened.model.config.value_dim)
    for size in (1, 3):
        settings = replace(settings, facts_at_once=size)
        result = train_plan(opened.model, plan, overlay, seed=0, settings=settings, progress=told)
        assert result.num_rows.tolist() == [8, 8, 8]
        # A lone fact takes few steps a pass, and may not get done.
        assert int(result.trained.learned.sum()) >= 2
        found.append(result.trained.delta.dense())
        if size == 1:
            assert any(one.startswith("Training: 1 of 1 facts learned") for one in told.described)
            assert told.described[-1].endswith("(3 of 3)")
    for index in range(3):
        apart, together = (dense[plan.selection.owners == index][0] for dense in found)
        assert torch.nn.functional.cosine_similarity(apart, together, dim=0) > 0.8


def test_passes_are_told_with_the_delta_of_all_facts_so_far(world):
    opened, facts = world.opened_world(), world.new_facts()[:3]
    settings = replace(world.world_settings(), facts_at_once=1)
    opened.model.set_overlay(0, None)
    plan = plan_edit(opened.model, opened.tokenizer, opened.background, facts, seed=0, settings=settings)
    overlay = plan.selection.blank_overlay(opened.model.config.value_dim)
    told = []
    result = train_plan(
        opened.model,
        plan,
        overlay,
        seed=0,
        settings=settings,
        after_epoch=lambda epoch, delta: told.append((epoch, delta.dense())),
    )
    assert [epoch for epoch, _ in told] == list(range(1, len(result.trained.losses) + 1))
    assert {len(dense) for _, dense in told} == {len(plan.selection.slots)}
    for index in range(3):
        assert told[0][1][plan.selection.owners == index].any()
    assert not torch.equal(told[0][1], told[-1][1])
    assert torch.equal(told[-1][1], result.trained.delta.dense())
