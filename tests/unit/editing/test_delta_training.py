"""Training a delta: shared rows, the leaving of learned facts, and the same bits every time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fixtures_tiny import build_tiny_llama, separate_prefixes

from memedit.editing import training
from memedit.editing.frozen_blocks import FrozenBlocks
from memedit.editing.lessons import Lesson, make_lessons
from memedit.editing.output_path import OutputPath
from memedit.editing.plan import plan_edit, train_plan
from memedit.editing.row_states import memory_block, row_states
from memedit.editing.training import SharedVectors, TrainingSettings, train_delta
from memedit.progress import NULL_PROGRESS

SETTINGS = TrainingSettings(
    max_epochs=40,
    learning_rate=1.0,
    row_rate=1.0,
    batch_rows=4,
    margin=0.5,
    min_epochs=2,
    beta1=0.9,
    beta2=0.99,
)


def vectors(apart=(False, False, False)):
    return SharedVectors(
        torch.tensor([5, 7, 9]), torch.tensor([0, 0, 1]), torch.tensor(apart), 4, SETTINGS, 1.0
    )


def test_rows_of_a_subject_hold_one_vector():
    rows = vectors()
    rows.step(torch.tensor([0]), torch.ones(1, 4), 0.1)
    delta = rows.delta().dense()
    # A first step of Adam has the size of the rate.
    torch.testing.assert_close(delta[:2], torch.full((2, 4), -0.1))
    assert torch.equal(delta[2], torch.zeros(4))
    read = rows.read(torch.tensor([1, 2]))
    assert read.slots.tolist() == [7, 9]
    assert torch.equal(read.values, delta[1:])


def test_rows_that_are_kept_apart_have_a_part_of_their_own():
    rows = vectors(apart=[True, True, False])
    rows.step(torch.tensor([0]), torch.ones(1, 4), 0.1)
    delta = rows.delta().dense()
    torch.testing.assert_close(delta[0], torch.full((4,), -0.1 - 0.1))
    torch.testing.assert_close(delta[1], torch.full((4,), -0.1))
    assert torch.equal(delta[2], torch.zeros(4))
    assert torch.equal(rows.read(torch.tensor([0, 2])).values, delta[[0, 2]])


@pytest.fixture
def model(tiny_memory_llama):
    """A tiny retrofit with one block above its memory layer."""
    llama = build_tiny_llama(num_hidden_layers=3)
    return tiny_memory_llama(llama=llama, memory_empty_base=True).requires_grad_(requires_grad=False)


@pytest.fixture
def lessons(model):
    """Two facts of two rows, asked right at the gate, which even a random model can learn."""
    blocks, output = FrozenBlocks(model, 2), OutputPath(memory_block(model)[1])
    generator = torch.Generator().manual_seed(2)
    made = []
    for fact, answer in ((0, [40, 90]), (0, [40, 90]), (1, [50, 60, 90]), (1, [50, 60, 90])):
        hidden = torch.randn(1, 9, model.config.hidden_size, generator=generator)
        length = 3 + len(made)
        (prefix,) = separate_prefixes(blocks, hidden, [length])
        slots = torch.zeros(len(answer), 4, dtype=torch.int64)
        slots[:, :2] = torch.tensor([2 * fact, 2 * fact + 1])
        # Every answer token's place looks up a row of its own.
        slots[:, 2] = 4 + 4 * fact + torch.arange(len(answer))
        weights = torch.tensor([0.3, 0.3, 0.4, 0.0]).expand(len(answer), -1)
        tail = torch.randn(len(answer), model.config.hidden_size, generator=generator)
        made.append(Lesson(fact, prefix, tail, slots, weights, torch.tensor(answer), 0))
    return output, blocks, made


# Slots 0 and 1 share a vector, so do 2 and 3; the slots of the answer tokens' places have one each.
OWNERS = torch.tensor([0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9])
FACT_1 = torch.tensor([False, False, True, True] + 4 * [False] + 4 * [True])


def train(lessons, seed=0, num_facts=2, progress=NULL_PROGRESS, unit=1.0, **settings):
    output, blocks, taught = lessons
    chosen, dim = replace(SETTINGS, **settings), blocks.head.weight.shape[1]
    apart = torch.zeros(len(OWNERS), dtype=torch.bool)
    rows = SharedVectors(torch.arange(len(OWNERS)), OWNERS, apart, dim, chosen, unit)
    return train_delta(
        taught, output, blocks, rows, num_facts=num_facts, settings=chosen, seed=seed, progress=progress
    )


def test_a_step_taken_in_parts_has_the_gradient_of_the_whole_batch(lessons, monkeypatch):
    output, blocks, taught = lessons
    taken = []
    monkeypatch.setattr(SharedVectors, "step", lambda self, rows, gradient, rate: taken.append(gradient))
    whole = [list(range(4)), list(range(3))]
    for chosen in whole:
        rows = SharedVectors(
            torch.arange(12),
            OWNERS,
            torch.zeros(12, dtype=torch.bool),
            blocks.head.weight.shape[1],
            SETTINGS,
            1.0,
        )
        batch = [taught[at] for at in chosen]
        losses = training._step(batch, output, blocks, rows, 0.1)
        taken_in_one = torch.zeros_like(taken[-1])
        num_answers = sum(len(lesson.answer) for lesson in batch)
        for lesson, loss in zip(batch, losses, strict=True):
            (alone,) = training._step([lesson], output, blocks, rows, 0.1)
            torch.testing.assert_close(loss, alone)
            touched = rows.touched(lesson.slots, lesson.weights)
            everywhere = rows.touched(
                *(torch.cat([getattr(each, part) for each in batch]) for part in ("slots", "weights"))
            )
            place = torch.searchsorted(everywhere, touched)
            taken_in_one[place] += taken.pop() * len(lesson.answer) / num_answers
        torch.testing.assert_close(taken[-1], taken_in_one, rtol=1e-4, atol=1e-6)


def test_the_learning_rate_is_in_units_of_the_residual_stream(lessons):
    doubled = train(lessons, unit=2.0, max_epochs=5)
    assert torch.equal(doubled.delta.dense(), train(lessons, learning_rate=2.0, max_epochs=5).delta.dense())
    assert not torch.equal(doubled.delta.dense(), train(lessons, max_epochs=5).delta.dense())


@torch.no_grad()
def chance(blocks, lesson, delta):
    """Probability of each answer token with the delta."""
    added = (delta[lesson.slots] * lesson.weights[..., None]).sum(1)
    out = blocks.logits(blocks.forward((lesson.hidden + added)[None], [lesson.prefix]))[0]
    return out.softmax(-1)[torch.arange(len(lesson.answer)), lesson.answer]


def test_rows_that_are_read_with_weight_are_touched():
    rows = vectors()
    slots = torch.tensor([[9, 5, 4], [7, 5, 9]])
    assert rows.touched(slots, torch.tensor([[0.5, 0.2, 1.0], [0.0, 0.1, 0.0]])).tolist() == [0, 2]
    assert rows.touched(slots, torch.zeros(2, 3)).tolist() == []


def test_a_tiny_batch_is_learned(lessons):
    trained = train(lessons)
    assert trained.learned.tolist() == [True, True]
    assert trained.losses[-1] < 0.5 * trained.losses[0]
    assert len(trained.losses) == int(trained.epochs.max()) < SETTINGS.max_epochs
    _, blocks, taught = lessons
    for lesson in taught:
        # Learned with margin 0.5 at the last reading; one more step came after it.
        assert float(chance(blocks, lesson, trained.delta.dense()).min()) > 0.4


def test_training_ends_with_the_budget(lessons):
    trained = train(lessons, max_epochs=3, margin=0.999999, min_epochs=1)
    assert trained.learned.tolist() == [False, False]
    assert trained.epochs.tolist() == [3, 3]
    assert len(trained.losses) == 3


def test_no_fact_leaves_before_its_time(lessons):
    # Any chance is enough, but not before the fifth pass.
    trained = train(lessons, margin=1e-30, min_epochs=5)
    assert trained.epochs.tolist() == [5, 5]
    assert trained.learned.tolist() == [True, True]


def test_a_fact_leaves_when_each_of_its_rows_is_learned(lessons):
    output, blocks, taught = lessons
    # The second row of fact 1 asks for the opposite of the first, with the same look-ups and states.
    opposite = replace(taught[2], answer=torch.tensor([70, 60, 90]))
    trained = train((output, blocks, [*taught[:3], opposite]))
    assert trained.learned.tolist() == [True, False]
    assert trained.epochs[1] == SETTINGS.max_epochs


def test_a_fact_without_a_lesson_is_not_learned(lessons):
    trained = train(lessons, num_facts=4)
    assert trained.learned.tolist() == [True, True, False, False]
    assert trained.epochs.tolist()[2:] == [0, 0]
    nothing = train((*lessons[:2], []), num_facts=2)
    assert nothing.learned.tolist() == [False, False]
    assert nothing.losses == ()
    assert torch.equal(nothing.delta.dense(), torch.zeros_like(nothing.delta.dense()))


def test_the_same_seed_gives_the_same_bits(lessons):
    first, second, other = (train(lessons, seed=seed, batch_rows=1, max_epochs=4) for seed in (5, 5, 6))
    assert torch.equal(first.delta.dense(), second.delta.dense())
    assert first.losses == second.losses
    assert not torch.equal(first.delta.dense(), other.delta.dense())


def test_only_rows_of_read_subjects_move(lessons):
    output, blocks, taught = lessons
    delta = train((output, blocks, taught[:2]), max_epochs=2).delta.dense()
    assert torch.equal(delta[FACT_1], torch.zeros(6, delta.shape[1]))
    assert bool((delta[[0, 1, 4, 5]] != 0).any(-1).all())


class Counting:
    """Adds up what one task was told."""

    def __init__(self):
        self.total, self.done = None, 0

    def task(self, description, total):
        self.total = total
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, n=1):
        self.done += n

    def describe(self, description):
        self.described = description


@pytest.mark.parametrize("margin", [0.05, 0.999999])
def test_progress_reaches_its_total(lessons, margin):
    counting = Counting()
    trained = train(lessons, progress=counting, margin=margin, max_epochs=8)
    assert counting.done == counting.total == 4 * 8
    assert f"{int(trained.learned.sum())} of 2 facts learned" in counting.described


def test_a_plan_is_carried_out_in_the_live_model(world):
    # The trained delta does in use what it did in training.
    opened = world.opened_world()
    facts = world.new_facts()[:3]
    result = world.teach(opened, facts)
    assert result.num_wordings.tolist() == [8, 8, 8]
    assert bool((result.num_rows <= result.num_wordings).all())
    for fact in facts:
        ids = opened.tokenizer(f"<|im_start|>{fact.prompt} {fact.target}", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            taught = opened.model(input_ids=ids).logits[0, -2].softmax(-1)[ids[0, -1]]
            overlay = opened.model.overlay()
            opened.model.set_overlay(0, None)
            before = opened.model(input_ids=ids).logits[0, -2].softmax(-1)[ids[0, -1]]
            opened.model.set_overlay(0, overlay)
        assert taught > 0.4 > before


def test_a_plan_leaves_other_subjects_slots_alone(world):
    opened = world.opened_world()
    first, second = world.new_facts()[:2]
    world.teach(opened, [first])
    worn = opened.model.overlay()
    plan = plan_edit(
        opened.model, opened.tokenizer, opened.background, [second], seed=0, settings=world.world_settings()
    )
    assert set(plan.selection.slots.tolist()).isdisjoint(worn.slots.tolist())
    again = plan_edit(
        opened.model, opened.tokenizer, opened.background, [first], seed=0, settings=world.world_settings()
    )
    assert again.selection.slots.tolist() == worn.slots.tolist()


def test_a_plan_without_slots_or_decoys(world):
    opened = world.opened_world()
    settings = world.world_settings()
    settings = replace(settings, num_decoys=0, selection=replace(settings.selection, slots_per_subject=0))
    facts = world.new_facts()[:2]
    plan = plan_edit(opened.model, opened.tokenizer, opened.background, facts, seed=0, settings=settings)
    chosen = plan.selection
    nothing = chosen.blank_overlay(64)
    result = train_plan(opened.model, plan, nothing, seed=0, settings=settings)
    assert result.num_rows.tolist() == [0, 0]
    assert result.trained.learned.tolist() == [False, False]
    assert result.trained.delta.dense().shape == (0, 64)
    assert (
        make_lessons(
            plan.rows.rows,
            row_states(opened.model, plan.rows.rows),
            FrozenBlocks(opened.model, 1),
            nothing,
            chosen.slots,
            memory=memory_block(opened.model)[1],
        )
        == []
    )
