"""From facts to the edit that the user gets and the one that the store keeps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from memedit.editor.correcting import corrections_report
from memedit.editor.reporting import report_of, versions
from memedit.editor.results import Edit, EditRefused, FactOutcome
from memedit.editor.transaction import Trained
from memedit.facts import Fact, facts_from_records
from memedit.facts.formats import Records, read_records
from memedit.store import INJECT, NewEdit, encode_patch


def given_facts(
    facts: str | os.PathLike[str] | Records | Sequence[Fact | Mapping[str, Any]],
) -> tuple[Sequence[Fact], dict[str, Any] | None]:
    """Return the facts, and what was read where they come from a file.

    Raises:
        FactsError: when they cannot be used.
    """
    if isinstance(facts, (str, os.PathLike)):
        facts = read_records(facts)
    if isinstance(facts, Records):
        return facts.require_facts(), facts.counts()
    return facts_from_records(facts), None


def edit_of(
    given: Sequence[Fact],
    settled: Mapping[str, FactOutcome],
    trained: Trained | None,
    about: dict[str, Any],
    seconds: float,
) -> Edit:
    """Return the edit, not committed, with its report.

    Args:
        given: the facts of the file.
        settled: by id, what became of those that were not taught.
        trained: what was taught; None = nothing had to be.
        about: model, seed and the like, for the report.
        seconds: that it took.
    """
    outcomes = {**settled, **{item.fact.id: item for item in trained.outcomes}} if trained else settled
    ordered = tuple(outcomes[fact.id] for fact in given)
    report = report_of(
        ordered,
        trained.measured if trained else None,
        seconds={
            "total": seconds,
            "training": trained.training_seconds if trained else 0.0,
            "evaluation": trained.evaluation_seconds if trained else 0.0,
            "gate": trained.gate_seconds if trained else 0.0,
        },
        slots_written=sum(table.num_slots for table in trained.patch.tables) if trained else 0,
        patch_bytes=len(encode_patch(trained.patch)) if trained else 0,
        about={**about, "versions": versions()},
    )
    if trained is not None and trained.removal is not None:
        report["corrections"] = corrections_report(trained.corrections, trained.measured.answered)
        report["taught_again"] = taught_again(trained)
    return Edit(None, committed=False, outcomes=ordered, report=report)


def taught_again(trained: Trained) -> list[dict[str, Any]]:
    """Return what became of the facts that had to be taught again, as JSON objects."""
    removal = trained.removal
    moved = {} if removal is None else {stored.fact.id: stored.edit_id for stored in removal.again}
    return [
        {
            "id": outcome.fact.id,
            "prompt": outcome.fact.prompt,
            "edit": moved[outcome.fact.id],
            "status": outcome.status,
            "before": outcome.before,
            "after": outcome.after,
        }
        for outcome in trained.outcomes
        if outcome.fact.id in moved
    ]


def new_edit(trained: Trained, report: dict[str, Any], seed: int) -> NewEdit:
    """Return what the store is to keep of an edit that was trained now."""
    removal = trained.removal
    return NewEdit(
        facts=tuple(outcome.fact for outcome in trained.outcomes),
        outcomes=tuple(outcome.to_json() for outcome in trained.outcomes),
        patch=trained.patch,
        report=report,
        seed=seed,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        kind=INJECT if removal is None else removal.kind,
        withdraws=() if removal is None else removal.withdraws,
    )


def require_passed(trained: Trained, edit: Edit) -> None:
    """Raise EditRefused when the gate did not let the edit pass."""
    decision = trained.measured.gate
    if not decision.passed:
        raise EditRefused(
            "the gate refused the edit: " + "; ".join(decision.reasons),
            edit,
            remedy="Nothing was written. Teach fewer facts, raise --max-forgetting, or use --force.",
        )


def require_whole(trained: Trained, edit: Edit) -> None:
    """Raise EditRefused when facts would lose their rows without being learned anew.

    What replaces a stored fact must be learned, or neither answer would be left; and what only shared its
    rows must not go with it.
    """
    if trained.removal is None:
        return
    replacing = {each.new.id: "the new target of" for each in trained.corrections}
    again = dict.fromkeys((fact.id for fact in trained.removal.facts_again), "what was taught as")
    failed = [
        f"{(replacing.get(outcome.fact.id) or again[outcome.fact.id])} {outcome.fact.prompt!r}"
        for outcome in trained.outcomes
        if outcome.status != "learned" and outcome.fact.id in {**again, **replacing}
    ]
    if failed:
        raise EditRefused(
            f"{'; '.join(failed)} was not learned, so the edit would lose more than it is to take out",
            edit,
            remedy="Nothing was written. Give more wordings, or use --force to lose it all the same.",
        )
