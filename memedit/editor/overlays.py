"""Between the store's patches (numpy) and the model's overlays (torch)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from memedit.editing.delta import Delta
from memedit.editing.plan import EditPlan
from memedit.modeling import MemoryLlamaForCausalLM, Overlay
from memedit.store import DISCRIMINANT_TYPE, Owner, Patch, TablePatch, compose, discriminants_of


def composed_overlay(model: MemoryLlamaForCausalLM, patches: Sequence[Patch]) -> Overlay | None:
    """Sum patches, in journal order, to the overlay of the table that edits write to; None for nothing."""
    composition = compose(patches, model.config.value_dim, num_tables=1)
    (table,) = composition.tables
    shares_rows = len(table.delta) < table.num_slots
    if table.num_slots == 0:
        return None
    discriminants = torch.from_numpy(discriminants_of(composition.owners)).float()
    return Overlay(
        torch.from_numpy(table.slots),
        torch.from_numpy(table.delta),
        torch.from_numpy(table.owners),
        torch.tensor([owner.threshold for owner in composition.owners], dtype=torch.float32),
        tuple(owner.subject for owner in composition.owners),
        torch.from_numpy(table.rows) if shares_rows else None,
        discriminants if discriminants.shape[1] else None,
    )


@contextmanager
def wearing(model: MemoryLlamaForCausalLM, overlay: Overlay | None) -> Iterator[None]:
    """Give the model another overlay for the length of a `with` block, then the former one back."""
    before = model.overlay()
    model.set_overlay(model.edited_table, overlay)
    try:
        yield
    finally:
        model.set_overlay(model.edited_table, before)


def patch_of(plan: EditPlan, delta: Delta, metadata: dict[str, str]) -> Patch:
    """Make the patch of an edit: the plan's slots with these deltas, equal ones kept once."""
    selection = plan.selection
    fact_ids: dict[str, list[str]] = {}
    for fact in plan.facts:
        fact_ids.setdefault(fact.subject, []).append(fact.id)
    discriminants = _kept(selection.discriminants, len(plan.rows.subjects))
    owners = tuple(
        Owner(subject, threshold, tuple(fact_ids.get(subject, ())), discriminant)
        for subject, threshold, discriminant in zip(
            plan.rows.subjects, selection.thresholds.tolist(), discriminants, strict=True
        )
    )
    table = TablePatch(
        selection.slots.numpy(), delta.values.numpy(), selection.owners.numpy(), delta.rows.numpy()
    ).with_distinct_rows()
    return Patch((table,), owners, metadata)


def _kept(discriminants: torch.Tensor | None, num_owners: int) -> list[bytes]:
    """Discriminants as a patch keeps them."""
    if discriminants is None:
        return [b""] * num_owners
    return [row.tobytes() for row in discriminants.numpy().astype(DISCRIMINANT_TYPE)]
