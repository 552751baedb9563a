"""Slot usage against counts made one look-up at a time."""

from __future__ import annotations

import math
from collections import Counter

import torch

from memedit.modeling.slot_usage import SlotUsage, watched


def test_usage_equals_brute_force():
    generator = torch.Generator().manual_seed(3)
    slots = torch.randint(0, 12, (40, 5), generator=generator)
    weights = torch.rand(40, 5, generator=generator)
    usage = SlotUsage(16)
    usage.add(slots[:10], weights[:10])
    usage.add(slots[10:], weights[10:])
    mass = Counter()
    for slot, weight in zip(slots.flatten().tolist(), weights.flatten().tolist(), strict=True):
        mass[slot] += weight
    total = sum(mass.values())
    assert usage.share_used == len(mass) / 16
    expected = sum(part / total * math.log(part / total * 16) for part in mass.values())
    assert math.isclose(usage.kl_to_uniform, expected, rel_tol=1e-9)


def test_even_usage_has_no_divergence():
    usage = SlotUsage(8)
    usage.add(torch.arange(8).view(2, 4), torch.ones(2, 4))
    assert usage.share_used == 1
    assert abs(usage.kl_to_uniform) < 1e-12


def test_layers_are_watched_only_inside(tiny_memory_llama):
    model = tiny_memory_llama(memory_layers=[1, 2])
    layers, ids = list(model.memory_layers().values()), torch.arange(3, 13).view(2, 5)
    with watched(layers, SlotUsage(256)) as usage:
        model(ids)
    # 10 tokens, 2 layers, 2 heads, whose weights sum to 1.
    assert math.isclose(float(usage.mass.sum()), 40, rel_tol=1e-5)
    model(ids)
    assert math.isclose(float(usage.mass.sum()), 40, rel_tol=1e-5)
