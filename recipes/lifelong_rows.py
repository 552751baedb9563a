"""What an edit costs and what it does to the value table: slots shared, norms, bytes, seconds of each stage.

What: `StageClock`, `written_rows`, `slots_of_edit`, `folder_bytes`.
Why: a method that works for one edit may slow down, run out of free slots or let rows grow over a hundred.
How: counted from the patches and the overlay; the clock listens to the progress that the library reports.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from memedit import Editor

Values = dict[str, Any]


class _Quiet:
    """A task that nobody watches."""

    def advance(self, n: int = 1) -> None:
        """Count nothing."""

    def describe(self, description: str) -> None:
        """Show nothing."""


class StageClock:
    """A progress that keeps the seconds of each task by its description."""

    def __init__(self) -> None:
        """Start with no stage."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[_Quiet]:
        """Time a task."""
        started = time.perf_counter()
        try:
            yield _Quiet()
        finally:
            taken = time.perf_counter() - started
            self.seconds[description] = round(self.seconds.get(description, 0.0) + taken, 3)


def written_rows(editor: Editor) -> Values:
    """Number and size of the rows that the model wears, all edits together."""
    overlay = editor.model.overlay()
    if overlay is None:
        return {"rows": 0, "share_of_slots": 0.0}
    norms = overlay.values.norm(dim=1)
    norms = (norms if overlay.rows is None else norms[overlay.rows]).cpu().numpy()
    return {
        "rows": len(norms),
        "share_of_slots": len(norms) / editor.model.config.num_slots,
        "mean_norm": float(norms.mean()),
        "norm_95": float(np.quantile(norms, 0.95)),
        "largest_norm": float(norms.max()),
    }


def slots_of_edit(editor: Editor, edit_id: str) -> Values:
    """How an edit shares its slots with the others, how many its subjects got, and what composing takes.

    Args:
        editor: the model and its store, the edit active.
        edit_id: the edit.
    Returns:
        share_taken_before: share of its slots that other active edits write too. rows_per_subject: fewest,
        median and most slots. subjects_without_rows and subjects_starved (less than half the median).
        compose_seconds: reading and summing the patches of all other edits.
    """
    started = time.perf_counter()
    with editor.without(edit_id) as model:
        seconds = time.perf_counter() - started
        overlay = model.overlay()
        taken = np.empty(0, dtype=np.int64) if overlay is None else overlay.slots.cpu().numpy()
    patch = editor.store.patch(edit_id)
    slots = np.concatenate([table.slots for table in patch.tables])
    owners = np.concatenate([table.owners for table in patch.tables])
    rows = np.bincount(owners[owners >= 0], minlength=len(patch.owners))
    fewest, median, most = np.quantile(rows, (0.0, 0.5, 1.0)).tolist() if len(rows) else (0.0, 0.0, 0.0)
    return {
        "share_taken_before": float(np.isin(slots, taken).mean()) if len(slots) else 0.0,
        "rows_per_subject": [fewest, median, most],
        "subjects_without_rows": int((rows == 0).sum()),
        "subjects_starved": int((rows < median / 2).sum()),
        "compose_seconds": round(seconds, 4),
    }


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
