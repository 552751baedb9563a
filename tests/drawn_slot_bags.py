"""Slot bags to test: look-ups with duplicates, over a base table or none, and an overlay or none.

What: `draw`, and the kinds that it knows.
Why: what the sum is, and what it may cost, are tested on the same bags.
"""

from __future__ import annotations

import torch
from memedit_kernels.slot_bag import UNGATED, SlotOverlay

TABLES = [None, torch.float32, torch.bfloat16, torch.float16]
OVERLAYS = ["none", "plain", "gated"]
KINDS = [(base, overlay) for base in TABLES for overlay in OVERLAYS if base or overlay != "none"]


def draw(generator, tokens, num_slots, dim, per_token, base_type, kind):
    """Look-ups with duplicates, a base table or none, an overlay over half of the slots or none."""
    slots = torch.randint(0, num_slots, (tokens, per_token), generator=generator)
    weights = torch.rand(tokens, per_token, generator=generator)
    weights = 2 * weights / weights.sum(-1, keepdim=True)
    base = None if base_type is None else torch.randn(num_slots, dim, generator=generator).to(base_type)
    if kind == "none":
        return slots, weights, base, None
    written = torch.randperm(num_slots, generator=generator)[: (num_slots + 1) // 2].sort().values
    overlay = SlotOverlay(written, torch.randn(len(written), dim, generator=generator))
    if kind == "gated":
        owners = torch.randint(UNGATED, 4, written.shape, generator=generator)
        thresholds = torch.rand(4, generator=generator) / 4
        overlay = SlotOverlay(written, overlay.values, owners, thresholds, heads=2)
    return slots, weights, base, overlay
