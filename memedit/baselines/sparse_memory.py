"""memedit itself, and sparse memory with other choices of slots: planned and trained as an injection is.

With a ranking other than memedit's own, no subject owns a slot and no gate guards it; as many slots are
written as memedit may write ("all": every slot that is looked up).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

from memedit.baselines.methods import METHODS
from memedit.baselines.teaching import Taught, Teaching
from memedit.editing.delta import Delta
from memedit.editing.plan import EditingSettings, plan_edit, train_plan
from memedit.editing.selection import Ranking
from memedit.editor.overlays import composed_overlay, patch_of, wearing
from memedit.errors import UsageError
from memedit.store import Patch
from memedit.store.patch_file import encode_patch


@contextmanager
def teach(teaching: Teaching) -> Iterator[Taught]:
    """Teach by writing slots; see memedit.baselines.teaching."""
    opened, settings = teaching.opened, editing_settings(teaching)
    model = opened.model
    with teaching.meter.running():
        plan = plan_edit(
            model,
            opened.tokenizer,
            opened.background,
            teaching.facts,
            seed=teaching.seed,
            settings=settings,
            progress=teaching.progress,
        )

        def written(delta: Delta) -> Patch:
            return patch_of(plan, delta, {})

        def passed(epoch: int, delta: Delta) -> None:
            with wearing(model, composed_overlay(model, [written(delta)])):
                teaching.passed(epoch, settings.training.max_epochs)

        blank = Delta.blank(len(plan.selection.slots), model.config.value_dim)
        overlay = composed_overlay(model, [written(blank)])
        if overlay is None:
            raise UsageError(f"{teaching.method}: no subject has a free slot", remedy="Give longer subjects.")
        result = train_plan(
            model,
            plan,
            overlay,
            seed=teaching.seed,
            settings=settings,
            progress=teaching.progress,
            after_epoch=None if teaching.after_epoch is None else passed,
        )
        patch = written(result.trained.delta)
    with wearing(model, composed_overlay(model, [patch])):
        # Training can end before its last pass, when everything is learned: that end is measured too.
        if len(result.trained.losses) < settings.training.max_epochs:
            with teaching.meter.running():
                teaching.passed(settings.training.max_epochs, settings.training.max_epochs)
        yield Taught(teaching.respondent(), len(encode_patch(patch)))


def editing_settings(teaching: Teaching) -> EditingSettings:
    """Settings of memedit, scaled by the method's own, and its ranking."""
    base, own = teaching.editing, teaching.settings
    ranking = cast("Ranking", METHODS[teaching.method].ranking)
    training = replace(
        base.training,
        learning_rate=base.training.learning_rate * own["rate_factor"],
        max_epochs=max(1, round(base.training.max_epochs * own["epochs_factor"])),
    )
    return replace(base, selection=replace(base.selection, ranking=ranking), training=training)
