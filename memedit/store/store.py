"""The folder that holds the edits of one model: the one door to journal, patches, lock and cache.

What: `Store`: commit, undo, redo, and everything that can be asked about past edits.
Why: an edit is wholly in the store or not at all, whatever kills the process; two processes never both write;
and a store is never used with another model than its own.
How: a commit writes the patch file durably, then one SQLite transaction makes the edit exist. A patch file
without its row is what a killed commit left: the next writer removes it. Readers need no lock.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from memedit.errors import FingerprintMismatch, StoreError
from memedit.store.cache import Cache
from memedit.store.creation import create_store
from memedit.store.durable_file import StepHook, ignore_step
from memedit.store.edit_names import edit_id, find_edit
from memedit.store.journal import Journal
from memedit.store.locking import WriteLock
from memedit.store.patch_file import encode_patch, sha256_of
from memedit.store.patch_folder import PatchFolder
from memedit.store.patches import Patch
from memedit.store.records import EditRecord, Json, NewEdit, StoredFact, Withdrawal
from memedit.store.withdrawals import (
    Standing,
    counting,
    left_of,
    marked,
    require_redoable,
    require_standing,
    require_undoable,
    standing_of,
)

__all__ = ["Store"]

_JOURNAL = "journal.sqlite"
_PATCHES = "patches"
_CACHE = "cache"
_LOCK_SECONDS = 10.0


class Store:
    """The edits of one model; made by `Store.open`, closed by `close` or as a context manager."""

    def __init__(
        self, root: Path, journal: Journal, *, read_only: bool, lock_timeout: float | None, on_step: StepHook
    ) -> None:
        self.path = root
        self.read_only = read_only
        self.cache_dir = root / _CACHE
        self._journal = journal
        self._patches = PatchFolder(root / _PATCHES)
        self._lock = WriteLock(root)
        self._cache = Cache(self.cache_dir, read_only=read_only)
        self._lock_timeout = lock_timeout
        self._on_step = on_step

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        fingerprint: str | None,
        read_only: bool = False,
        lock_timeout: float | None = _LOCK_SECONDS,
        on_step: StepHook = ignore_step,
    ) -> Store:
        """Open the store in the folder `path`, making it where there is none.

        Args:
            path: The folder, usually `.memedit`.
            fingerprint: The base model's; None skips the check, for what needs no model (log, show, undo).
            read_only: Never write; a store that is not there is an error then.
            lock_timeout: Seconds that a write waits for another writer; None waits for as long as it takes.
            on_step: Told the name of each step of a write, after it is done.

        Returns:
            The store.

        Raises:
            FingerprintMismatch: Where the store belongs to another model.
            StoreCorrupt: Where the journal is damaged, or gone while its patches are there.
            StoreTooNew: Where a newer memedit wrote it.
            StoreError: Where it is not there or the system refuses.
        """
        root = Path(path)
        path_of_journal = root / _JOURNAL
        if not path_of_journal.exists():
            if read_only or fingerprint is None:
                raise StoreError(f"there is no store at {root}", remedy="`memedit inject FACTS` makes one.")
            create_store(
                root,
                journal=path_of_journal,
                patches=root / _PATCHES,
                fingerprint=fingerprint,
                lock_timeout=lock_timeout,
                on_step=on_step,
            )
        journal = Journal(path_of_journal, read_only=read_only)
        try:
            _require_fingerprint(root, journal.value("fingerprint"), fingerprint)
        except BaseException:
            journal.close()
            raise
        return cls(root, journal, read_only=read_only, lock_timeout=lock_timeout, on_step=on_step)

    def close(self) -> None:
        """Close the journal; the store is not usable afterwards."""
        self._journal.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def recorded_model(self) -> str | None:
        """What the user called the model of the newest edit; None where nothing says so."""
        names = [edit.report.get("model") for edit in self.edits()]
        return str(names[-1]) if names and names[-1] else None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the model that the store belongs to."""
        return self._journal.value("fingerprint") or ""

    def edits(self) -> tuple[EditRecord, ...]:
        """Return every edit, active or undone, in the order of their commits."""
        return self._journal.edits()

    def edit(self, name: str) -> EditRecord:
        """Return one edit by its id, the beginning of it, or its number.

        Raises:
            StoreError: Where none or several fit; it lists the known ones.
        """
        return find_edit(self.edits(), name)

    def facts(
        self, edit: str | None = None, *, without: Collection[str] = (), upto: str | None = None
    ) -> tuple[StoredFact, ...]:
        """Return the facts that count, in journal order, or every fact of one edit.

        Args:
            edit: Names the edit; its facts come with `active` and `withdrawn_by` where they do not count.
            without: Names of edits that are left out, as if they were undone.
            upto: Names the last edit of an earlier state, whose facts are wanted.
        """
        if edit is not None:
            number, standing = self.edit(edit).number, self.standing()
            return tuple(marked(each, standing) for each in self._journal.facts(edit=number))
        return counting(self._journal.facts(), self.standing(without=without, upto=upto))

    def find_fact(self, fact_id: str) -> StoredFact | None:
        """Return the fact with this id that counts (the newest, where several edits hold it), or None."""
        found = counting(self._journal.find_fact(fact_id), standing_of(self.edits()))
        return next(reversed(found), None)

    def find_prompt(self, prompt: str) -> StoredFact | None:
        """Return the fact with this prompt that counts, or None.

        Case, Unicode form and spacing do not count; the newest is taken where several edits hold it.
        """
        return next(reversed(counting(self._journal.find_prompt(prompt), standing_of(self.edits()))), None)

    def measurements(self, edit: str) -> tuple[Json, ...]:
        """Return the measurements kept with an edit, oldest first."""
        return self._journal.measurements(self.edit(edit).number)

    def patch(self, edit: str) -> Patch:
        """Return the patch of one edit as it was committed, checked against the journal.

        Raises:
            StoreCorrupt: Where the file is gone or was changed.
        """
        return self._patches.read(self.edit(edit), self.fingerprint)

    def standing(
        self,
        *,
        without: Collection[str] = (),
        upto: str | None = None,
        withdrawing: Iterable[Withdrawal] = (),
    ) -> Standing:
        """Return the edits that a state of the model is made of, and what is withdrawn from them.

        Args:
            without: Names of edits to leave out, as if they were undone.
            upto: Names the last edit of the state: the model as it was right after it; None = now.
            withdrawing: What is taken out besides, by an edit that is still to be made.

        Raises:
            StoreError: Where a name fits no edit, or an edit to leave out is part of a later one.
        """
        edits = self.edits()
        left_out = [find_edit(edits, name) for name in without]
        for record in left_out:
            if record.merged_into is not None and upto is None:
                raise StoreError(
                    f"edit {record.id} cannot be left out: edit {record.merged_into} holds all of it",
                    remedy=f"Take that edit back first: memedit undo {record.merged_into}",
                )
        last = None if upto is None else find_edit(edits, upto).number
        return standing_of(edits, without={record.number for record in left_out}, upto=last, also=withdrawing)

    def active_patches(
        self,
        *,
        without: Collection[str] = (),
        upto: str | None = None,
        withdrawing: Iterable[Withdrawal] = (),
    ) -> tuple[Patch, ...]:
        """Return what counts of the patches of a state, in journal order, each checked against the journal.

        Args:
            without: Names of edits to leave out, as if they were undone.
            upto: Names the last edit of the state; None = now.
            withdrawing: What is taken out besides, by an edit that is still to be made.

        Raises:
            StoreCorrupt: Where a file is gone or was changed.
            StoreError: Where a name fits no edit, or an edit to leave out is part of a later one.
        """
        standing = self.standing(without=without, upto=upto, withdrawing=withdrawing)
        fingerprint = self.fingerprint
        return tuple(
            left_of(self._patches.read(edit, fingerprint), standing.withdrawn_from(edit.id))
            for edit in standing.edits
        )

    @contextmanager
    def lock(self, *, timeout: float | None = None) -> Iterator[None]:
        """Hold the exclusive right to write; the same thread may take it again inside.

        Args:
            timeout: Seconds to wait for another writer; None takes the store's `lock_timeout`.

        Raises:
            StoreLocked: Where another process (or another Store) holds it; the message names it.
            StoreError: Where the store is read-only or cannot be written to.
        """
        if self.read_only:
            raise StoreError(
                f"store {self.path} was opened read-only and cannot be changed",
                remedy="Open it without read-only; its folder must be writable.",
            )
        outermost = self._lock.acquire(self._lock_timeout if timeout is None else timeout)
        try:
            if outermost:
                self._on_step("lock-taken")
                self._patches.remove_leftovers(self._journal.next_number())
                self._on_step("leftovers-removed")
            yield
        finally:
            self._lock.release()

    def commit(self, new: NewEdit) -> EditRecord:
        """Add an edit, wholly or not at all.

        Args:
            new: The edit.

        Returns:
            The edit as the journal holds it, active.

        Raises:
            StoreLocked: Where another process is writing.
            StoreError: Where the patch does not fit the store, or the disk refuses: the store is as it was.
        """
        with self.lock():
            require_standing(new.withdraws, standing_of(self.edits()), f"the new edit ({new.kind})")
            patch = self._stamped(new)
            payload = encode_patch(patch)
            sha256 = sha256_of(payload)
            number = self._journal.next_number()
            name = edit_id(number, new, sha256)
            try:
                file = self._patches.add(name, payload, self._on_step)
                with self._journal.transaction(self._on_step):
                    self._journal.insert_edit(number, name, new)
                    self._on_step("edit-inserted")
                    self._journal.insert_patch(
                        number, patch, file=file, sha256=sha256, num_bytes=len(payload)
                    )
                    self._on_step("patch-inserted")
                    self._journal.insert_facts(number, new)
                    self._on_step("facts-inserted")
                    self._journal.insert_withdrawals(number, new)
                    self._on_step("withdrawals-inserted")
                    self._journal.seal_edit(number)
                    self._on_step("edit-sealed")
                    self._journal.insert_measurements(number, new.measurements)
                    self._on_step("measurements-inserted")
            except BaseException:
                self._tidy_after_failure()
                raise
            return self.edit(name)

    def add_measurements(self, edit: str, measurements: Sequence[Json]) -> None:
        """Keep further measurements with an edit, all of them or none."""
        with self.lock():
            number = self.edit(edit).number
            with self._journal.transaction(self._on_step):
                self._journal.insert_measurements(number, measurements)

    def undo(self, edit: str | None = None) -> EditRecord:
        """Make an edit inactive; its patch file stays, and is not even read.

        Args:
            edit: Its name; None takes the last active one.

        Returns:
            The edit, inactive.

        Raises:
            StoreError: Where there is no such edit, it is undone already, or a later edit rests on it.
        """
        with self.lock():
            edits = self.edits()
            active = [record for record in edits if record.active]
            if edit is None and not active:
                raise StoreError(
                    f"store {self.path} has no active edit to undo", remedy="`memedit log` shows all."
                )
            record = active[-1] if edit is None else find_edit(edits, edit)
            if record.undone:
                raise StoreError(
                    f"edit {record.id} is undone already",
                    remedy=f"`memedit redo {record.id}` brings it back.",
                )
            require_undoable(record, edits, self.facts)
            with self._journal.transaction(self._on_step):
                self._journal.mark_undone(record.number)
                self._on_step("edit-flipped")
            return replace(record, active=False, merged_into=None)

    def redo(self, edit: str | None = None) -> EditRecord:
        """Make an undone edit active again, at its old place in the order.

        Args:
            edit: Its name; None takes the one undone last.

        Returns:
            The edit, active.

        Raises:
            StoreCorrupt: Where its patch is gone or was changed; it stays undone.
            StoreError: Where there is no such edit, it is active already, or what it rests on has changed.
        """
        with self.lock():
            edits = self.edits()
            last = self._journal.last_undone()
            if edit is None and last is None:
                raise StoreError(
                    f"store {self.path} has no undone edit to redo", remedy="`memedit log` shows all."
                )
            record = find_edit(edits, str(last) if edit is None else edit)
            if not record.undone:
                raise StoreError(
                    f"edit {record.id} is active already",
                    remedy=f"`memedit undo {record.id}` switches it off.",
                )
            require_redoable(record, edits, self.facts)
            self._patches.read(record, self.fingerprint)
            with self._journal.transaction(self._on_step):
                self._journal.mark_active(record.number)
                self._on_step("edit-flipped")
            return replace(record, active=True)

    def write_cache(self, name: str, value: object) -> bool:
        """Keep a JSON value that can be made again; False where the store is read-only and kept nothing."""
        return self._cache.write(name, value)

    def read_cache(self, name: str) -> Any | None:
        """Return a value kept by `write_cache`, or None where there is none that can be read."""
        return self._cache.read(name)

    def _stamped(self, new: NewEdit) -> Patch:
        """Return the edit's patch with what it was made for, and what it withdraws, in its metadata."""
        patch = new.patch
        fingerprint = self.fingerprint
        stamps = {"fingerprint": fingerprint, "seed": str(new.seed)}
        if new.withdraws:
            # A state is named by the hashes of its patches, and these rows change it too.
            stamps["kind"] = new.kind
            stamps["withdraws"] = json.dumps([[each.edit, each.subject] for each in new.withdraws])
        for key, value in stamps.items():
            if patch.metadata.get(key, value) != value:
                raise FingerprintMismatch(
                    f"patch metadata {key!r} is {patch.metadata[key]}, the store and the edit say {value}",
                    remedy="Commit the patch to the store of the model that it was made with.",
                )
        shape = self._journal.patch_shape()
        if shape is not None and shape != (len(patch.tables), patch.dim):
            raise StoreError(
                f"the patch holds {len(patch.tables)} table(s) of width {patch.dim}, "
                f"those in store {self.path} hold {shape[0]} of width {shape[1]}",
                remedy="Commit the patch to the store of the model that it was made with.",
            )
        return replace(patch, metadata={**patch.metadata, **stamps})

    def _tidy_after_failure(self) -> None:
        # After a COMMIT that failed only a fresh look at the disk can tell whether the edit exists, so its
        # patch is left to the next writer. Nothing here may hide the error that is on its way to the user.
        if not self._journal.commit_in_doubt:
            with suppress(StoreError):
                self._patches.remove_leftovers(self._journal.next_number())


def _require_fingerprint(root: Path, found: str | None, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise FingerprintMismatch(
            f"store {root} belongs to the model with fingerprint {found}, it was opened with {wanted}",
            remedy="Choose that model with --model, or another store with --store.",
        )
