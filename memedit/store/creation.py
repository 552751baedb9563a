"""Make a store where there is none.

What: `create_store`.
Why: two processes may find no store at the same moment, and one may be killed while it makes it.
How: under the write lock, with the journal coming last and in one rename: a folder without a journal is no
store yet.
"""

from __future__ import annotations

from pathlib import Path

import memedit
from memedit.errors import StoreCorrupt, StoreError
from memedit.store.connection import create_journal_file
from memedit.store.durable_file import StepHook, disk_refused, fsync_folder, remove_temporary_files
from memedit.store.locking import WriteLock
from memedit.store.patch_folder import PatchFolder

__all__ = ["create_store"]


def create_store(
    root: Path,
    *,
    journal: Path,
    patches: Path,
    fingerprint: str,
    lock_timeout: float | None,
    on_step: StepHook,
) -> None:
    """Make an empty store; leave alone one that another process makes meanwhile.

    Args:
        root: The folder of the store.
        journal: Where its journal goes.
        patches: Where its patches go.
        fingerprint: The model that it belongs to.
        lock_timeout: Seconds to wait for another process that makes it.
        on_step: Told `CREATE_STEPS`.

    Raises:
        StoreCorrupt: Where patches are there but their journal is not.
        StoreError: Where `root` is no folder or the disk refuses.
    """
    if root.exists() and not root.is_dir():
        raise StoreError(
            f"store {root} must be a folder, it is a file", remedy="Choose another folder with --store."
        )
    with disk_refused(root):
        patches.mkdir(parents=True, exist_ok=True)
    lock = WriteLock(root)
    lock.acquire(lock_timeout)
    try:
        on_step("lock-taken")
        if journal.exists():
            return
        _require_no_patches(root, journal, PatchFolder(patches))
        with disk_refused(root):
            remove_temporary_files(root)
            fsync_folder(root.parent)
        values = {"fingerprint": fingerprint, "memedit_version": memedit.__version__}
        create_journal_file(journal, values, on_step)
    finally:
        lock.release()


def _require_no_patches(root: Path, journal: Path, patches: PatchFolder) -> None:
    # A new journal would make every one of these files look like a leftover.
    if not patches.is_empty():
        raise StoreCorrupt(
            f"store {root} holds patches but its journal {journal.name} is gone",
            remedy=f"Restore {journal.name} from a backup, or choose another folder with --store.",
        )
