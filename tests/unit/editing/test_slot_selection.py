"""Slot selection on routings written by hand: who gets which slot, and when gates open."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from memedit.editing.row_states import SubjectRouting
from memedit.editing.selection import SelectionSettings, SlotSelector, owner_mass
from memedit.modeling.background import SAMPLE_TAIL, BackgroundStatistics

NUM_SLOTS = 40
SETTINGS = SelectionSettings(
    slots_per_subject=3,
    contrast=1.0,
    hard_tokens=2,
    threshold_position=0.5,
    min_threshold=0.1,
    low_quantile=0.0,
    min_idf=0.05,
    discriminant=None,
)


def routing(*rows):
    """A routing of one head from (owner, {slot: weight}) pairs; weights are filled up to 1 by slot 39."""
    width = 4
    owners = torch.tensor([owner for owner, _ in rows], dtype=torch.int64)
    slots = torch.full((len(rows), width), NUM_SLOTS - 1)
    weights = torch.zeros(len(rows), width)
    for index, (_, told) in enumerate(rows):
        for place, (slot, weight) in enumerate(told.items()):
            slots[index, place], weights[index, place] = slot, weight
    return SubjectRouting(owners, slots, weights, weights[:, :0])


def text(tokens=(), frequency=None, num_documents=100):
    """Background of (tail of tokens, {slot: weight}) pairs."""
    told = routing(*((0, hits) for _, hits in tokens))
    tails = torch.tensor(
        [[-1] * (SAMPLE_TAIL - len(tail)) + list(tail) for tail, _ in tokens], dtype=torch.int32
    ).view(-1, SAMPLE_TAIL)
    counts = torch.zeros(NUM_SLOTS, dtype=torch.int32)
    for slot, count in (frequency or {}).items():
        counts[slot] = count
    sample = (told.slots.int(), (told.weights * 255).round().to(torch.uint8), tails)
    return BackgroundStatistics(counts, num_documents, *sample)


def select(taught, look_alikes=(), background=None, tails=None, taken=(), given=None, **settings):
    """The selection of a hand-written case; `given` says of each wording whether the user wrote it."""
    num_subjects = 1 + max(owner for owner, _ in taught)
    selector = SlotSelector(
        routing(*taught),
        routing(*look_alikes),
        background or text(),
        tails or [set() for _ in range(num_subjects)],
        given=torch.tensor(given or [False] * len(taught)),
        heads=1,
        settings=replace(SETTINGS, **settings),
    )
    return selector.select(torch.tensor(taken, dtype=torch.int64))


def slots_of(selection, subject):
    return set(selection.slots[selection.owners == subject].tolist())


def test_the_most_used_slots_are_chosen():
    chosen = select([(0, {1: 0.5, 2: 0.3, 3: 0.1, 4: 0.05}), (0, {1: 0.5, 4: 0.05, 2: 0.3, 5: 0.01})])
    assert chosen.slots.tolist() == [1, 2, 3]
    assert chosen.owners.tolist() == [0, 0, 0]
    assert chosen.num_slots().tolist() == [3]


def test_a_slot_has_one_owner_the_one_that_uses_it_more():
    chosen = select([(0, {1: 0.4, 2: 0.6}), (1, {1: 0.6, 3: 0.4})])
    assert slots_of(chosen, 0) == {2}
    assert slots_of(chosen, 1) == {1, 3}
    assert chosen.slots.tolist() == sorted(set(chosen.slots.tolist()))


def test_a_tie_goes_to_the_first_subject():
    chosen = select([(0, {1: 0.5, 2: 0.1}), (1, {1: 0.5, 3: 0.1})])
    assert slots_of(chosen, 0) == {1, 2}
    assert slots_of(chosen, 1) == {3}


def test_use_is_the_mean_over_wordings():
    # Subject 0 has four wordings that use the slot a little, subject 1 a single one that uses it more.
    chosen = select([*[(0, {1: 0.3})] * 4, (1, {1: 0.4})])
    assert slots_of(chosen, 1) == {1}


def test_taken_slots_are_never_chosen():
    chosen = select([(0, {1: 0.5, 2: 0.3, 3: 0.1, 4: 0.05})], taken=[1, 3])
    assert chosen.slots.tolist() == [2, 4]


def test_slots_of_look_alikes_are_left_out():
    taught = [(0, {1: 0.4, 2: 0.4, 3: 0.2})]
    chosen = select(taught, [(0, {1: 0.5}), (0, {1: 0.5, 3: 0.1})])
    assert chosen.slots.tolist() == [2, 3]
    assert select(taught, [(0, {1: 0.5})], contrast=0.0).slots.tolist() == [1, 2, 3]
    # Another subject's look-alikes count against that subject only.
    chosen = select([*taught, (1, {9: 1.0})], [(1, {1: 0.5})])
    assert slots_of(chosen, 0) == {1, 2, 3}


def test_slots_that_general_text_uses_come_last():
    taught = [(0, {1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1})]
    chosen = select(taught, background=text(frequency={1: 90, 2: 1}), slots_per_subject=2)
    assert chosen.slots.tolist() == [2, 3]


def test_a_subject_that_all_text_mentions_still_finds_slots():
    common = text(frequency=dict.fromkeys(range(NUM_SLOTS), 100))
    assert select([(0, {1: 0.6, 2: 0.4})], background=common).slots.tolist() == [1, 2]
    assert select([(0, {1: 0.6, 2: 0.4})], background=common, min_idf=0.0).slots.tolist() == []


def test_hard_background_tokens_count_like_look_alikes():
    token = ((7, 8), {1: 0.9})
    chosen = select([(0, {1: 0.5, 2: 0.5})], background=text([token]))
    assert chosen.slots.tolist() == [2]
    assert select([(0, {1: 0.5, 2: 0.5})], background=text([token]), hard_tokens=0).slots.tolist() == [1, 2]


def test_mentions_of_the_subject_are_not_held_against_it():
    background = text([((5, 7, 8), {1: 0.9})])
    chosen = select([(0, {1: 0.5, 2: 0.5})], background=background, tails=[{(7, 8)}])
    assert chosen.slots.tolist() == [1, 2]
    assert float(chosen.thresholds[0]) == pytest.approx(0.5)
    # A mention of one subject says nothing about another one.
    both = [(0, {1: 0.5, 2: 0.5}), (1, {3: 1.0})]
    chosen = select(both, background=background, tails=[set(), {(7, 8)}])
    assert slots_of(chosen, 0) == {2}
    for tail in ((8, 7), (7,), (5, 7, 8, 9)):
        assert select(both[:1], background=background, tails=[{tail}]).slots.tolist() == [2]


def test_thresholds_lie_between_the_others_and_the_subject():
    taught, others = [(0, {1: 0.5, 2: 0.3})], [(0, {2: 0.2})]
    for position, expected in ((0.0, 0.2), (0.5, 0.5), (1.0, 0.8)):
        chosen = select(taught, others, threshold_position=position)
        assert chosen.slots.tolist() == [1, 2]
        assert float(chosen.thresholds[0]) == pytest.approx(expected)


def test_thresholds_are_bounded():
    assert float(select([(0, {1: 0.2})], min_threshold=0.3).thresholds[0]) == pytest.approx(0.3)
    full = select([(0, {1: 1.0})], threshold_position=1.0)
    assert float(full.thresholds[0]) == pytest.approx(0.95)


def test_a_quantile_stands_for_what_a_subject_reaches():
    taught = [(0, {1: weight / 10}) for weight in range(1, 10)]
    low, middle = (
        float(select(taught, low_quantile=q, threshold_position=1.0).thresholds[0]) for q in (0.0, 0.5)
    )
    assert (low, middle) == (pytest.approx(0.1), pytest.approx(0.5))


def test_a_subject_without_free_slots():
    chosen = select([(0, {1: 0.5}), (1, {2: 0.5})], taken=[2])
    assert chosen.num_slots().tolist() == [1, 0]
    assert torch.isfinite(chosen.thresholds).all()
    nothing = select([(0, {1: 0.5})], [(0, {1: 0.6})])
    assert (nothing.slots.tolist(), nothing.num_slots().tolist()) == ([], [0])
    assert nothing.slots.dtype == nothing.owners.dtype == torch.int64


def test_the_order_of_wordings_makes_no_difference():
    generator = torch.Generator().manual_seed(0)
    taught, others = (
        [
            (int(torch.randint(3, (1,), generator=generator)), {int(slot): 0.25 for slot in slots})
            for slots in [torch.randperm(NUM_SLOTS, generator=generator)[:4] for _ in range(30)]
        ]
        for _ in range(2)
    )
    first, second = select(taught, others), select(taught[::-1], others[::-1])
    assert torch.equal(first.slots, second.slots)
    assert torch.equal(first.owners, second.owners)
    torch.testing.assert_close(first.thresholds, second.thresholds)


def test_masses():
    chosen = select([(0, {1: 0.5, 2: 0.3}), (1, {3: 0.9})])
    at = routing((0, {1: 0.5, 3: 0.4}), (1, {3: 0.2, 1: 0.7}), (0, {9: 1.0}))
    assert owner_mass(chosen, at, heads=1).tolist() == pytest.approx([0.5, 0.2, 0.0])
    assert owner_mass(chosen, at, heads=2).tolist() == pytest.approx([0.25, 0.1, 0.0])


def test_statistics_of_no_text():
    empty = BackgroundStatistics.empty(NUM_SLOTS)
    chosen = select([(0, {1: 0.5, 2: 0.3})], background=empty, tails=[{(1, 2, 3)}])
    assert chosen.slots.dtype == torch.int64
    assert len(chosen.thresholds) == 1


def test_a_threshold_counts_the_slots_that_the_subject_had_before():
    # A gate sums over all slots of its subject: the look-alike reaches one that an earlier edit wrote.
    taught, look_alike = [(0, {1: 0.5, 2: 0.3})], [(0, {5: 0.4})]
    selector = SlotSelector(
        routing(*taught),
        routing(*look_alike),
        text(),
        [set()],
        given=torch.tensor([False]),
        heads=1,
        settings=SETTINGS,
    )
    nothing = torch.empty(0, dtype=torch.int64)
    alone = selector.select(nothing)
    later = selector.select(nothing, (torch.tensor([2, 5]), torch.tensor([0, 0])))
    assert (later.slots.tolist(), later.owners.tolist()) == (alone.slots.tolist(), alone.owners.tolist())
    assert alone.thresholds.tolist() == pytest.approx([0.4])
    assert later.thresholds.tolist() == pytest.approx([0.6])


def test_a_gate_opens_in_every_wording_that_was_given():
    taught = [(0, {1: 0.9}), (0, {1: 0.9}), (0, {1: 0.4}), (1, {2: 0.8})]
    look_alikes = [(0, {1: 0.5, 9: 0.5}), (1, {2: 0.1})]
    numbers = {"contrast": 0.0, "min_threshold": 0.1, "threshold_position": 0.5, "low_quantile": 0.5}
    made = select(taught, look_alikes, **numbers)
    asked = select(taught, look_alikes, given=[True, False, True, True], **numbers)
    assert made.thresholds.tolist() == pytest.approx([0.7, 0.45])
    assert asked.thresholds.tolist() == pytest.approx([0.95 * 0.4, 0.45])
