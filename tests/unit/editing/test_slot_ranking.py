"""Slots of a whole edit, without owners: TF-IDF, TF, KL, and all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from memedit_kernels.slot_bag import UNGATED

from memedit.editing.row_states import RowState
from memedit.editing.slot_ranking import select_for_edit, slot_scores
from memedit.evaluation import generate_answers
from memedit.modeling.background import BackgroundStatistics


@pytest.fixture
def background():
    frequency = torch.tensor([99, 0, 9, 0, 49], dtype=torch.int32)
    return replace(BackgroundStatistics.empty(5), document_frequency=frequency, num_documents=99)


def state(*slots):
    found = torch.tensor(slots)[:, None]
    return RowState(torch.zeros(len(slots), 2), found, torch.ones(found.shape), torch.zeros(len(slots), 0))


def chosen(background, ranking, slots_per_subject=1, taken=()):
    states = [state(0, 0, 0, 0, 0, 1), state(2, 2, 0, 0)]
    selection = select_for_edit(
        states,
        background,
        ranking,
        slots_per_subject=slots_per_subject,
        num_subjects=2,
        taken=torch.tensor(taken, dtype=torch.int64),
    )
    assert selection.owners.tolist() == [UNGATED] * len(selection.slots)
    return selection.slots.tolist()


def test_tfidf_is_the_formula(background):
    scores = slot_scores(torch.tensor([7.0, 1, 2, 0, 0]), background, "tfidf")
    expected = torch.tensor([7.0, 1, 2, 0, 0]) / 10 * torch.log(torch.tensor([1.0, 100, 10, 100, 2]))
    torch.testing.assert_close(scores, expected)


def test_kl_terms_sum_to_the_divergence(background):
    counts = torch.tensor([7.0, 1, 2, 0, 0])
    smoothed = background.document_frequency + 1
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Categorical(probs=counts), torch.distributions.Categorical(probs=smoothed.float())
    )
    torch.testing.assert_close(slot_scores(counts, background, "kl").sum(), divergence)


@pytest.mark.parametrize(
    ("ranking", "expected"), [("tf", [0, 2]), ("tfidf", [1, 2]), ("kl", [1, 2]), ("all", [0, 1, 2])]
)
def test_the_best_slots_are_chosen(background, ranking, expected):
    assert chosen(background, ranking) == expected


def test_slots_of_others_stay_theirs(background):
    assert chosen(background, "tf", taken=[0]) == [1, 2]
    assert chosen(background, "all", taken=[0, 2]) == [1]


@pytest.mark.parametrize("ranking", ["tfidf", "kl"])
def test_ungated_rows_teach(world, ranking):
    opened, fact = world.opened_world(), world.new_facts()[0]
    settings = world.world_settings()
    settings = replace(settings, selection=replace(settings.selection, ranking=ranking))
    world_settings, world.world_settings = world.world_settings, lambda **_: settings
    try:
        world.teach(opened, [fact])
    finally:
        world.world_settings = world_settings
    assert opened.model.overlay().owners.unique().tolist() == [UNGATED]
    (answer,) = generate_answers(opened.model, opened.tokenizer, [fact.prompt], max_new_tokens=6)
    assert answer.text == fact.target
