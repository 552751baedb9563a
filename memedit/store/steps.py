"""The names of the steps of every write, in order.

What: what `Store` tells its `on_step` hook.
Why: an edit must be wholly in the store or not at all whatever moment the process dies at; tests kill it
after each of these, and fail when a step is added here that is never reached.
"""

from __future__ import annotations

__all__ = ["COMMIT_STEPS", "CREATE_STEPS", "UNDO_STEPS"]

CREATE_STEPS = ("lock-taken", "journal-built", "journal-created")
"""Making a store: it exists from the last step on."""

COMMIT_STEPS = (
    "lock-taken",
    "leftovers-removed",
    "patch-opened",
    "patch-partly-written",
    "patch-written",
    "patch-fsynced",
    "patch-renamed",
    "patch-folder-fsynced",
    "transaction-begun",
    "edit-inserted",
    "patch-inserted",
    "facts-inserted",
    "withdrawals-inserted",
    "edit-sealed",
    "measurements-inserted",
    "transaction-committed",
)
"""A commit: the edit exists from the last step on. "patch-partly-written" comes with large patches only."""

UNDO_STEPS = ("lock-taken", "leftovers-removed", "transaction-begun", "edit-flipped", "transaction-committed")
"""An undo or a redo: it counts from the last step on."""
