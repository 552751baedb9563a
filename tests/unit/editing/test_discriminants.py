"""Discriminants: which side of a subject's boundary queries lie on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from memedit.editing.discriminants import DiscriminantSettings, subject_discriminants
from memedit.editing.row_states import SubjectRouting
from memedit.modeling.memory_table import agrees

DIM = 12
SETTINGS = DiscriminantSettings(position=0.5, ridge=0.3, low_quantile=0.0, given_share=0.95)


def routing(queries, owners):
    nothing = torch.zeros(len(owners), 0)
    return SubjectRouting(torch.tensor(owners, dtype=torch.int64), nothing.long(), nothing, queries.half())


def drawn(centre, count, seed, spread=0.1):
    generator = torch.Generator().manual_seed(seed)
    noise = spread * torch.randn(count, DIM, generator=generator)
    # Wordings move queries along the last direction most, whatever the subject.
    noise[:, -1] *= 10
    return centre + noise


@pytest.fixture
def world():
    """Two subjects, 13 wordings and 20 look-alikes each, which differ in a third of the directions."""
    generator = torch.Generator().manual_seed(7)
    centres = torch.randn(2, DIM, generator=generator)
    others = centres.clone()
    others[:, :4] -= 1.5
    taught = torch.cat([drawn(centres[0], 13, 1), drawn(centres[1], 13, 2)])
    look_alikes = torch.cat([drawn(others[0], 20, 3), drawn(others[1], 20, 4)])
    return {
        "centres": centres,
        "others": others,
        "taught": routing(taught, [0] * 13 + [1] * 13),
        "look_alikes": routing(look_alikes, [0] * 20 + [1] * 20),
        "given": torch.tensor([True] + [False] * 12 + [True] + [False] * 12),
    }


def fitted(world, **changes):
    settings = replace(SETTINGS, **changes)
    return subject_discriminants(
        world["taught"], world["look_alikes"], given=world["given"], num_subjects=2, settings=settings
    )


def test_unseen_wordings_and_look_alikes_fall_on_their_sides(world):
    discriminants = fitted(world)
    assert discriminants.shape == (2, DIM + 1)
    torch.testing.assert_close(discriminants[:, :-1].norm(dim=-1), torch.ones(2), rtol=1e-3, atol=0)
    for subject in (0, 1):
        owners = torch.full((200,), subject)
        own = drawn(world["centres"][subject], 200, 20 + subject)
        strange = drawn(world["others"][subject], 200, 30 + subject)
        assert agrees(discriminants, owners, own).float().mean() > 0.97
        assert agrees(discriminants, owners, strange).float().mean() < 0.03
        # Along the direction in which wordings differ there is nothing to be told.
        assert discriminants[subject, -2].abs() < 0.2


def test_the_boundary_lies_where_it_is_put(world):
    told = world["look_alikes"]
    scores = []
    for position in (0.0, 1.0):
        discriminants = fitted(world, position=position, given_share=1.0)
        owner = told.owners
        strange = (told.queries.float() * discriminants[owner, :-1]).sum(-1) + discriminants[owner, -1]
        taught = world["taught"]
        own = (taught.queries.float() * discriminants[taught.owners, :-1]).sum(-1)
        scores.append((float(strange.max()), float((own + discriminants[taught.owners, -1]).min())))
    (nearest, _), (_, least) = scores
    # At 0 the nearest look-alike lies on the boundary, at 1 the subject's own farthest wording.
    assert abs(nearest) < 2e-3
    assert abs(least) < 2e-3


def test_a_given_wording_is_never_shut_out(world):
    taught = world["taught"]
    strange = taught.queries.clone()
    # The user's own wording looks almost like a look-alike.
    strange[0] = (0.3 * world["centres"][0] + 0.7 * world["others"][0]).half()
    world["taught"] = replace(taught, queries=strange)
    discriminants = fitted(world, position=0.9, low_quantile=0.5)
    assert bool(agrees(discriminants, torch.tensor([0]), strange[:1])[0])


def test_a_single_fact_gets_one(world):
    taught, others = world["taught"], world["look_alikes"]
    discriminants = subject_discriminants(
        routing(taught.queries[:1], [0]),
        routing(others.queries[:20], [0] * 20),
        given=torch.tensor([True]),
        num_subjects=1,
        settings=SETTINGS,
    )
    # One wording says nothing of how wordings differ: the direction is the plain difference of the means.
    difference = taught.queries[0].float() - others.queries[:20].float().mean(0)
    cosine = torch.nn.functional.cosine_similarity(discriminants[0, :-1], difference, dim=0)
    assert cosine > 0.999
    assert bool(agrees(discriminants, torch.tensor([0]), taught.queries[:1])[0])


def test_without_look_alikes_the_gate_alone_decides(world):
    discriminants = subject_discriminants(
        world["taught"],
        routing(world["look_alikes"].queries[:20], [0] * 20),
        given=world["given"],
        num_subjects=3,
        settings=SETTINGS,
    )
    assert bool(discriminants[0].any())
    # Subject 1 has no look-alikes, subject 2 no wordings either.
    assert not discriminants[1:].any()
    anything = 100 * torch.randn(50, DIM)
    assert bool(agrees(discriminants, torch.full((50,), 1), anything).all())
    assert bool(agrees(discriminants, torch.full((50,), 2), anything).all())


def test_numbers_are_those_of_the_file(world):
    discriminants = fitted(world)
    assert torch.equal(discriminants.half().float(), discriminants)
