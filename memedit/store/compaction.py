"""Many active patches made one, without a change of a single bit of their sum.

What: `compact` (the patches that count become one edit, `merged_edit`), and what a compaction that trains
anew shares with it.
Why: rows that several edits wrote are read and summed each time, and withdrawn ones are read and dropped.
How: the sum of the patches is itself a patch: same slots, values, owners and thresholds. It is compared with
the sum bit by bit before it is committed; the edits that it holds stay on disk, and undo brings them back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from memedit.errors import StoreError, UsageError
from memedit.store.composition import Composition, compose
from memedit.store.patch_file import encode_patch
from memedit.store.patches import Patch
from memedit.store.records import EditRecord, NewEdit, StoredFact, Withdrawal
from memedit.store.store import Store

__all__ = [
    "TAUGHT_BY",
    "compact",
    "merged_edit",
    "merged_facts",
    "require_compactable",
    "same_sum",
    "sizes",
    "whole_withdrawals",
]

TAUGHT_BY = "taught_by"
"""Key in the outcome of a fact that came with a compaction: the id of the edit that taught it."""


def compact(store: Store) -> EditRecord:
    """Merge every edit that counts into one; undoing it brings them back.

    Args:
        store: The store; it may be written.

    Returns:
        The edit that holds them all; its report says how many rows and bytes were in use before and after.

    Raises:
        UsageError: Where there is nothing to merge.
        StoreError: Where the store cannot be written, or the sum would change.
    """
    with store.lock():
        return store.commit(merged_edit(store))


def merged_edit(store: Store) -> NewEdit:
    """Return the edit that holds all edits that count, without committing it.

    Args:
        store: The store; nothing is written.

    Raises:
        UsageError: Where there is nothing to merge.
        StoreError: Where the sum would change.
    """
    started = time.perf_counter()
    edits = require_compactable(store)
    patches = store.active_patches()
    whole = _sum(patches)
    merged = Patch(whole.tables, whole.owners)
    if not same_sum(_sum([merged]), whole):
        raise StoreError(
            f"store {store.path} cannot be compacted: the merged patch is not the sum of its parts",
            remedy="Nothing was written. Please report this with the versions from `memedit doctor`.",
        )
    facts = merged_facts(store.facts())
    learned = sum(stored.outcome.get("status") == "learned" for stored in facts)
    report: dict[str, Any] = {
        "retrained": False,
        "model": store.recorded_model(),
        "merged": [edit.id for edit in edits],
        "counts": {"facts": len(facts), "learned": learned, "failed": len(facts) - learned},
        **sizes(edits, merged),
        "seconds": {"total": round(time.perf_counter() - started, 3)},
    }
    return NewEdit(
        facts=tuple(stored.fact for stored in facts),
        outcomes=tuple(stored.outcome for stored in facts),
        patch=merged,
        report=report,
        seed=edits[-1].seed,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        kind="compact",
        withdraws=whole_withdrawals(edits),
    )


def require_compactable(store: Store) -> tuple[EditRecord, ...]:
    """Return the edits that count.

    Raises:
        UsageError: Where there is none, or only one of which nothing was withdrawn.
    """
    standing = store.standing()
    if len(standing.edits) > 1 or any(standing.withdrawn_from(edit.id) for edit in standing.edits):
        return standing.edits
    what = f"only edit {standing.edits[0].id} is active" if standing.edits else "no edit is active"
    raise UsageError(
        f"store {store.path} has nothing to compact: {what}", remedy="`memedit log` shows all edits."
    )


def merged_facts(facts: Sequence[StoredFact]) -> list[StoredFact]:
    """Return the facts of several edits as those of one, each with the edit that taught it in its outcome.

    Args:
        facts: The facts that count, in journal order; of those with one id the newest is taken.
    """
    newest = {stored.fact.id: stored for stored in facts}
    kept = [stored for stored in facts if newest[stored.fact.id] is stored]
    return [replace(each, outcome={TAUGHT_BY: each.edit_id, **each.outcome}) for each in kept]


def whole_withdrawals(edits: Sequence[EditRecord]) -> tuple[Withdrawal, ...]:
    """Return what an edit withdraws that holds others whole."""
    return tuple(Withdrawal(edit.id, None) for edit in edits)


def sizes(edits: Sequence[EditRecord], merged: Patch) -> dict[str, dict[str, int]]:
    """Return how many rows and bytes are in use before and after; the files of before stay on disk.

    Args:
        edits: The edits that are merged.
        merged: The patch that holds them all.
    """
    num_bytes = len(encode_patch(merged))
    before = sum(edit.patch_bytes for edit in edits)
    return {
        "rows": {"before": sum(edit.slots_written for edit in edits), "after": merged.num_slots},
        "bytes_in_use": {"before": before, "after": num_bytes},
        "bytes_on_disk": {"before": before, "after": before + num_bytes},
    }


def same_sum(one: Composition, other: Composition) -> bool:
    """Whether two sums of patches are the same to the bit: slots, values, owners and thresholds."""
    return one.owners == other.owners and all(
        first.same_as(second) for first, second in zip(one.tables, other.tables, strict=True)
    )


def _sum(patches: Sequence[Patch]) -> Composition:
    return compose(patches, patches[0].dim, len(patches[0].tables))
