"""Revising what was taught: forgetting, merging, undoing and redoing.

What: `Revising`, the part of an Editor that changes the journal without teaching anything new.
Why: each of these is one entry of the journal, or a flip of one, and leaves the live model as the store says.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext

from memedit.editing.plan import EditingSettings
from memedit.editor.compacting import (
    compacted,
    consolidate,
    consolidation_edit,
    new_consolidation,
    require_better,
)
from memedit.editor.evaluating import BASE, CURRENT, States
from memedit.editor.forgetting import forget_facts, forgetting_edit, new_forgetting, require_forgotten
from memedit.editor.gating import GateMode, check_gate_mode
from memedit.editor.overlays import composed_overlay
from memedit.editor.removing import find_stored
from memedit.editor.results import Edit
from memedit.editor.transaction import Injection, Limits
from memedit.evaluation import general_text
from memedit.modeling.opening import OpenedModel
from memedit.progress import NULL_PROGRESS, Progress
from memedit.store import EditRecord, NewEdit, Store


class Revising:
    """A model and its store, whose edits can be revised.

    Args:
        opened: the model.
        store: its edits.
    """

    def __init__(self, opened: OpenedModel, store: Store) -> None:
        self._opened = opened
        self.store = store

    def forget(
        self,
        *facts: str,
        subjects: Sequence[str] = (),
        seed: int = 0,
        dry_run: bool = False,
        force: bool = False,
        gate: GateMode = "quick",
        max_forgetting: float = 0.02,
        max_perplexity_ratio: float = 1.02,
        text: str | os.PathLike[str] | None = None,
        settings: EditingSettings | None = None,
        progress: Progress = NULL_PROGRESS,
    ) -> Edit:
        """Take stored facts out: an edit like any other, measured before it counts and undoable to the bit.

        Args:
            facts: ids of stored facts, or beginnings that fit one.
            subjects: subjects, all of whose facts are to go.
            seed: of the training of facts that share rows with those that go.
            dry_run: do everything but the commit.
            force: commit even where the measurements refuse.
            gate: as for `inject`.
            max_forgetting: allowed share of other knowledge that is lost.
            max_perplexity_ratio: allowed perplexity after / before on general text.
            text: a file of general text; None = the bundled one.
            settings: how facts are taught again; None = the defaults.
            progress: told of what takes time.

        Returns:
            The edit: an outcome for each forgotten fact, and the report.

        Raises:
            UsageError: when a name fits no stored fact or several.
            ForgettingRefused: when a fact is still answered, or other knowledge would be lost.
            StoreError: when the store cannot be written.
        """
        check_gate_mode(gate)
        limits = Limits(max_forgetting, max_perplexity_ratio, gate)
        injection = self._injection(seed, text, settings, limits, progress)
        with nullcontext() if dry_run else self.store.lock():
            self._restore()
            gone = find_stored(self.store, facts, subjects)
            found = forget_facts(injection, gone, States(self._opened, self.store).identity(CURRENT))
            edit = forgetting_edit(found, {"gate_mode": gate, "model": self._opened.name, "seed": seed})
            if not force:
                require_forgotten(found, edit, gate=gate)
            return edit if dry_run else self._committed(edit, new_forgetting(found, edit.report, seed))

    def compact(
        self,
        *,
        retrain: bool = False,
        max_loss: float = 0.0,
        seed: int = 0,
        dry_run: bool = False,
        force: bool = False,
        gate: GateMode = "full",
        text: str | os.PathLike[str] | None = None,
        settings: EditingSettings | None = None,
        progress: Progress = NULL_PROGRESS,
    ) -> Edit:
        """Merge all active edits into one; undoing it brings them back.

        Args:
            retrain: train all their facts afresh, together, and keep that only where it is measured to be
                equal or better; else no bit of the model changes, and most other options mean nothing.
            max_loss: share of each group of questions that may be lost, net of what was gained.
            seed: of the training.
            dry_run: do everything but the commit.
            force: keep what was trained whatever was measured.
            gate: "full" asks all of what must stay, "quick" a part of it.
            text: a file of general text; None = the bundled one.
            settings: how facts are taught; None = the defaults.
            progress: told of what takes time.

        Returns:
            The edit and its report.

        Raises:
            UsageError: when there is nothing to merge.
            CompactionRefused: when what was trained is worse; nothing was written.
            StoreError: when the store cannot be written.
        """
        if not retrain:
            try:
                return compacted(self.store, dry_run=dry_run)
            finally:
                self._restore()
        check_gate_mode(gate)
        injection = self._injection(seed, text, settings, Limits(1.0, math.inf, gate), progress)
        with nullcontext() if dry_run else self.store.lock():
            self._restore()
            states = States(self._opened, self.store)
            found = consolidate(injection, states.identity(CURRENT), states.identity(BASE))
            edit = consolidation_edit(found, {"model": self._opened.name, "seed": seed}, max_loss)
            if not force:
                require_better(edit)
            return edit if dry_run else self._committed(edit, new_consolidation(found, edit.report, seed))

    def undo(self, edit: str | None = None) -> EditRecord:
        """Take an edit back; the model is then the sum of the others, to the bit.

        Args:
            edit: its id; None = the last active one.
        """
        try:
            return self.store.undo(edit)
        finally:
            self._restore()

    def redo(self, edit: str | None = None) -> EditRecord:
        """Bring an undone edit back.

        Args:
            edit: its id; None = the one undone last.
        """
        try:
            return self.store.redo(edit)
        finally:
            self._restore()

    def _injection(
        self,
        seed: int,
        text: str | os.PathLike[str] | None,
        settings: EditingSettings | None,
        limits: Limits,
        progress: Progress,
        *,
        replace: bool = False,
    ) -> Injection:
        return Injection(
            self._opened,
            self.store,
            seed=seed,
            text=general_text(text),
            settings=settings or EditingSettings(),
            limits=limits,
            progress=progress,
            replace=replace,
        )

    def _restore(self) -> None:
        """Compose the active edits into the model."""
        model = self._opened.model
        model.set_overlay(model.edited_table, composed_overlay(model, self.store.active_patches()))

    def _committed(self, edit: Edit, new: NewEdit) -> Edit:
        try:
            record = self.store.commit(new)
        finally:
            # Ctrl-C can come right after the commit counts: the model follows the store either way.
            self._restore()
        report = {**edit.report, "edit": record.id, "patch_bytes": record.patch_bytes}
        return Edit(record.id, committed=True, outcomes=edit.outcomes, report=report)
