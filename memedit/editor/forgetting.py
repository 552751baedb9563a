"""Forgetting facts: the model without them, measured before it counts.

What: `forget_facts` of a model (`Forgetting`), its report and what the store keeps of it.
Why: a fact that is taken out must be gone in every wording, what the model said without it must come back,
and nothing else may change; all of that is asked, not assumed.
How: the rows of the facts' subjects are left out of the sum, never subtracted. Facts that share them are
taught again in the same edit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from memedit.editor.edits import taught_again
from memedit.editor.gating import asked_facts, suite_size
from memedit.editor.measuring import MAX_NEW_TOKENS, ask_all
from memedit.editor.overlays import composed_overlay, wearing
from memedit.editor.removing import Removal, removal_of
from memedit.editor.reporting import lost_items, peak_memory_mb, versions
from memedit.editor.results import Edit, FactOutcome, ForgettingRefused
from memedit.editor.transaction import Injection, Trained
from memedit.evaluation import Answered, GateDecision, Metric, Question, Retention
from memedit.evaluation.forgotten import forgotten
from memedit.evaluation.recall import TRAINED_WORDING, questions_of
from memedit.store import NewEdit, Patch, StoredFact, TablePatch, encode_patch


@dataclass(frozen=True)
class Forgetting:
    """Facts that were taken out of the model and measured, not in the store yet.

    Attributes:
        removal: what goes, and what was taught again.
        trained: what was taught again; None where nothing shared the rows.
        patch: what the edit adds: the rows of what was taught again.
        before: the questions of the facts that go, answered before.
        after: the same after.
        base: the same by the model without any edit.
        others_before: questions of other stored facts, answered before.
        others_after: the same after.
        kept: the retention suite, perplexity, and the gate's decision.
        seconds: it took.
    """

    removal: Removal
    trained: Trained | None
    patch: Patch
    before: tuple[Answered, ...]
    after: tuple[Answered, ...]
    base: tuple[Answered, ...]
    others_before: tuple[Answered, ...]
    others_after: tuple[Answered, ...]
    kept: tuple[Retention, Metric, GateDecision]
    seconds: float

    def reasons(self) -> list[str]:
        """Return why it should not be committed: what is still said, and what was not learned again."""
        said = [
            now.question.prompt
            for now, base in zip(self.after, self.base, strict=True)
            if now.correct and not base.correct
        ]
        reasons = [f"{prompt!r} is still answered with what was to be forgotten" for prompt in said[:3]]
        if len(said) > len(reasons):
            reasons.append(f"so are {len(said) - len(reasons)} more")
        lost = [] if self.trained is None else taught_again(self.trained)
        return reasons + [
            f"{item['prompt']!r}, which shares the rows, was not learned again"
            for item in lost
            if item["status"] != "learned"
        ]


def forget_facts(injection: Injection, gone: Sequence[StoredFact], state: str) -> Forgetting:
    """Take facts out of a model, and measure what that does.

    Args:
        injection: the model, its store, and how facts that share rows are taught again.
        gone: stored facts.
        state: names the model and its active edits, for the cache of measurements.

    Raises:
        UsageError: where an edit wrote rows that no subject owns.
    """
    started = time.perf_counter()
    store, model = injection.store, injection.model
    removal = removal_of(store, gone, "forget")
    injection.take_out(removal)
    asked = [question for item in _each_once(removal.gone) for question in questions_of(item.fact)]
    others = _questions_of_others(injection, removal)
    budget = _budget(injection, [*asked, *others])

    def ask(questions: Sequence[Question], description: str) -> tuple[Answered, ...]:
        return tuple(ask_all(model, injection.tokenizer, questions, budget, description, injection.progress))

    before = ask(asked, "Asking about the facts before")
    others_before = ask(others, "Asking about other stored facts before")
    trained, patch, kept = _without(injection, removal, state)
    with wearing(model, composed_overlay(model, [*injection.standing(), patch])):
        after = ask(asked, "Asking about the facts after")
        others_after = ask(others, "Asking about other stored facts after")
    with wearing(model, None):
        base = ask(asked, "Asking the model without edits")
    seconds = time.perf_counter() - started
    return Forgetting(
        removal, trained, patch, before, after, base, others_before, others_after, kept, seconds
    )


def _without(
    injection: Injection, removal: Removal, state: str
) -> tuple[Trained | None, Patch, tuple[Retention, Metric, GateDecision]]:
    """What is taught again, the patch, and what must stay, judged."""
    if removal.again:
        trained = injection.run(removal.facts_again, state)
        measured = trained.measured
        return trained, trained.patch, (measured.retention, measured.perplexity_ratio, measured.gate)
    baseline, text = injection.known(state, len(removal.gone))
    with wearing(injection.model, composed_overlay(injection.model, injection.standing())):
        kept = injection.judged(baseline, (), text)
    config = injection.model.config
    table = TablePatch(
        np.empty(0, np.int64), np.empty((0, config.value_dim), np.float32), np.empty(0, np.int64)
    )
    return None, Patch((table,)), kept


def _each_once(stored: Sequence[StoredFact]) -> list[StoredFact]:
    return list({item.fact.id: item for item in stored}.values())


def _questions_of_others(injection: Injection, removal: Removal) -> list[Question]:
    """What is asked of stored facts that nothing is to happen to: a part that is chosen by hash."""
    touched = {item.fact.id for item in (*removal.gone, *removal.again)}
    learned = {
        item.fact.id: item.fact
        for item in injection.store.facts()
        if item.outcome.get("status") == "learned" and item.fact.id not in touched
    }
    size = suite_size(injection.limits.mode, len(removal.gone))
    return [q for fact in asked_facts(list(learned.values()), size) for q in questions_of(fact)]


def _budget(injection: Injection, questions: Sequence[Question]) -> int:
    lengths = [len(injection.tokenizer(f" {answer}")["input_ids"]) for q in questions for answer in q.answers]
    return max(MAX_NEW_TOKENS, max(lengths) + 2)


def forgetting_edit(forgetting: Forgetting, about: dict[str, Any]) -> Edit:
    """Return the edit, not committed, with its report.

    Args:
        forgetting: what was measured.
        about: model, seed and the like, for the report.
    """
    outcomes = tuple(_outcome(forgetting, item) for item in _each_once(forgetting.removal.gone))
    again = [] if forgetting.trained is None else taught_again(forgetting.trained)
    retention, _, decision = forgetting.kept
    base = {item.question.prompt: item.text for item in forgetting.base}
    report: dict[str, Any] = {
        "edit": None,
        "counts": {
            "forgotten": len(outcomes),
            "facts": len(again),
            "learned": sum(item["status"] == "learned" for item in again),
            "failed": sum(item["status"] != "learned" for item in again),
        },
        "forgotten": [
            {
                "id": outcome.fact.id,
                "prompt": outcome.fact.prompt,
                "target": outcome.fact.target,
                "subject": outcome.fact.subject,
                "edit": stored.edit_id,
                "before": outcome.before,
                "after": outcome.after,
                "base": base[outcome.fact.prompt],
            }
            for outcome, stored in zip(outcomes, _each_once(forgetting.removal.gone), strict=True)
        ],
        "taught_again": again,
        "metrics": _metrics(forgetting),
        "others_changed": _changed(forgetting),
        "retained_lost": lost_items(retention),
        "gate": asdict(decision),
        "reasons": forgetting.reasons(),
        "seconds": {"total": round(forgetting.seconds, 2)},
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "slots_written": forgetting.patch.num_slots,
        "patch_bytes": len(encode_patch(forgetting.patch)),
        "versions": versions(),
        **about,
    }
    return Edit(None, committed=False, outcomes=outcomes, report=report)


def _outcome(forgetting: Forgetting, stored: StoredFact) -> FactOutcome:
    def text_of(answered: Sequence[Answered]) -> str:
        return next(
            item.text
            for item in answered
            if item.question.fact_id == stored.fact.id and item.question.group == TRAINED_WORDING
        )

    return FactOutcome(
        stored.fact, "forgotten", text_of(forgetting.before), text_of(forgetting.after), note=None
    )


def _metrics(forgetting: Forgetting) -> dict[str, Any]:
    metrics = forgotten(forgetting.base, forgetting.after, forgetting.others_before, forgetting.others_after)
    retention, ratio, _ = forgetting.kept
    return {
        metric.name: {key: value for key, value in metric.to_json().items() if key != "name"}
        for metric in (*metrics, retention.metric, ratio)
    }


def _changed(forgetting: Forgetting) -> list[dict[str, str]]:
    pairs = zip(forgetting.others_before, forgetting.others_after, strict=True)
    return [
        {"id": now.question.fact_id, "prompt": now.question.prompt, "before": was.text, "after": now.text}
        for was, now in pairs
        if was.text != now.text
    ]


def require_forgotten(forgetting: Forgetting, edit: Edit, *, gate: str) -> None:
    """Raise ForgettingRefused where the measurements say that it should not be committed.

    Args:
        forgetting: what was measured.
        edit: the edit, for the error.
        gate: "off" lets the retention suite and perplexity refuse nothing.
    """
    decision = forgetting.kept[2]
    reasons = forgetting.reasons() + ([] if gate == "off" else list(decision.reasons))
    if reasons:
        raise ForgettingRefused(
            "forgetting was refused: " + "; ".join(reasons),
            edit,
            remedy="Nothing was written. Forget the whole subject (--subject), or use --force.",
        )


def new_forgetting(forgetting: Forgetting, report: dict[str, Any], seed: int) -> NewEdit:
    """Return what the store is to keep."""
    trained = () if forgetting.trained is None else forgetting.trained.outcomes
    return NewEdit(
        facts=tuple(outcome.fact for outcome in trained),
        outcomes=tuple(outcome.to_json() for outcome in trained),
        patch=forgetting.patch,
        report=report,
        seed=seed,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        kind="forget",
        withdraws=forgetting.removal.withdraws,
    )
