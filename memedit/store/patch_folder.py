"""The folder of patch files: one for each edit, named after it, plus at most one that a killed commit left.

What: `PatchFolder`: add a patch file, read one back against the journal, remove what a killed commit left.
Why: the journal decides which edits exist; this folder must never hold less than the journal says, and may
hold more only until the next writer comes.
How: files are added durably before their rows are. A leftover has the number that the next edit will get; any
other file is none of ours to remove (a journal restored from an older backup must not cost the newer
patches).
"""

from __future__ import annotations

from pathlib import Path

from memedit.errors import FingerprintMismatch
from memedit.store.durable_file import StepHook, disk_refused, remove_temporary_files, write_durably
from memedit.store.edit_names import number_in
from memedit.store.patch_file import read_patch
from memedit.store.patches import Patch
from memedit.store.records import EditRecord

__all__ = ["PatchFolder"]

_SUFFIX = ".safetensors"


class PatchFolder:
    """The patch files of a store.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, edit_id: str) -> Path:
        """Return where the patch of an edit is."""
        return self.folder / f"{edit_id}{_SUFFIX}"

    def is_empty(self) -> bool:
        """Return whether there is no patch file."""
        return not any(self.folder.glob(f"*{_SUFFIX}"))

    def add(self, edit_id: str, payload: bytes, on_step: StepHook) -> str:
        """Write the patch file of an edit durably; the caller holds the lock.

        Args:
            edit_id: The edit.
            payload: The bytes of the file.
            on_step: Told "patch-opened" and so on, see `write_durably`.

        Returns:
            The name of the file in this folder.

        Raises:
            StoreError: Where the disk refuses.
        """
        path = self.path(edit_id)
        with disk_refused(path):
            write_durably(path, payload, on_step=lambda step: on_step(f"patch-{step}"))
        return path.name

    def read(self, edit: EditRecord, fingerprint: str) -> Patch:
        """Read the patch of an edit and check it against the journal.

        Args:
            edit: The edit as the journal holds it.
            fingerprint: The model that the store belongs to.

        Raises:
            StoreCorrupt: Where the file is gone or was changed.
            FingerprintMismatch: Where it was made for another model.
        """
        path = self.path(edit.id)
        remedy = (
            f"`memedit undo {edit.id}` still works and switches the edit off; "
            f"to get it back, restore {path.name} from a backup of the store."
        )
        patch = read_patch(path, sha256=edit.patch_sha256, remedy=remedy)
        made_for = patch.metadata.get("fingerprint")
        if made_for != fingerprint:
            raise FingerprintMismatch(
                f"patch {path} was made for model {made_for}, the store belongs to {fingerprint}",
                remedy=remedy,
            )
        return patch

    def remove_leftovers(self, next_number: int) -> None:
        """Remove what a killed commit left; the caller holds the lock.

        Args:
            next_number: The number that the next edit will get: a file with it has no row in the journal.

        Raises:
            StoreError: Where the disk refuses.
        """
        with disk_refused(self.folder):
            remove_temporary_files(self.folder)
            for path in self.folder.glob(f"*{_SUFFIX}"):
                if number_in(path.stem) == next_number:
                    path.unlink(missing_ok=True)
