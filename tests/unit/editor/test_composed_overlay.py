"""Patches of which slots share rows, worn by a model: rows stay shared all the way."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from memedit.editing.delta import Delta
from memedit.editor.overlays import composed_overlay, patch_of
from memedit.store import encode_patch


@pytest.fixture
def model(tiny_memory_llama):
    return tiny_memory_llama(memory_empty_base=True)


def plan_for(slots, owners, discriminants=None):
    """What patch_of reads of a plan: two subjects and the slots chosen for them."""
    facts = [SimpleNamespace(id="f0", subject="Ada"), SimpleNamespace(id="f1", subject="Bob")]
    selection = SimpleNamespace(
        slots=torch.tensor(slots),
        owners=torch.tensor(owners),
        thresholds=torch.tensor([0.25, 0.5]),
        discriminants=discriminants,
    )
    return SimpleNamespace(facts=facts, selection=selection, rows=SimpleNamespace(subjects=("Ada", "Bob")))


def test_one_vector_a_subject_is_kept_once(model):
    owners = [0, 1] * 40
    vectors = torch.randn(2, 48)
    patch = patch_of(plan_for(list(range(80)), owners), Delta(vectors, torch.tensor(owners)), {})
    (table,) = patch.tables
    assert np.array_equal(table.delta, vectors.numpy())
    assert table.rows.tolist() == owners
    overlay = composed_overlay(model, [patch])
    assert torch.equal(overlay.values, vectors)
    assert torch.equal(overlay.values_at(torch.arange(80)), vectors[owners])
    model.set_overlay(0, overlay)
    assert model.memory_tables()[0].overlay_values.shape == (2, 48)


def test_the_same_subjects_taught_again_share_the_sum(model):
    owners = [0, 1] * 40
    first, second = torch.randn(2, 48), torch.randn(2, 48)
    patches = [
        patch_of(plan_for(list(range(start, start + 80)), owners), Delta(vectors, torch.tensor(owners)), {})
        for start, vectors in ((0, first), (40, second))
    ]
    overlay = composed_overlay(model, patches)
    expected = torch.zeros(120, 48)
    expected[:80] += first[owners]
    expected[40:] += second[owners]
    assert torch.equal(overlay.values_at(torch.arange(120)), expected)
    assert len(overlay.values) == 6


def test_rows_that_all_differ_are_worn_without_an_index(model):
    delta = torch.randn(80, 48)
    patch = patch_of(plan_for(list(range(80)), [0] * 80), Delta(delta, torch.arange(80)), {})
    overlay = composed_overlay(model, [patch])
    assert overlay.rows is None
    assert torch.equal(overlay.values, delta)
    shared = patch_of(
        plan_for(list(range(80)), [0] * 80), Delta(delta, torch.zeros(80, dtype=torch.int64)), {}
    )
    assert len(encode_patch(shared)) < len(encode_patch(patch)) / 5


def test_discriminants_reach_the_model(model):
    drawn = torch.randn(2, 2 * model.config.memory_key_dim + 1).half().float()
    delta = Delta(torch.randn(2, 48), torch.tensor([0, 1] * 40))
    patch = patch_of(plan_for(list(range(80)), [0, 1] * 40, drawn), delta, {})
    model.set_overlay(0, composed_overlay(model, [patch]))
    assert torch.equal(model.overlay().discriminants, drawn)
    without = patch_of(plan_for(list(range(80)), [0, 1] * 40), delta, {})
    assert composed_overlay(model, [without]).discriminants is None
    # An older patch of other subjects leaves the boundaries of these alone.
    others = tuple(replace(owner, subject="X" + owner.subject) for owner in without.owners)
    renamed = replace(without, owners=others)
    overlay = composed_overlay(model, [renamed, patch])
    assert torch.equal(overlay.discriminants, torch.cat([torch.zeros_like(drawn), drawn]))
