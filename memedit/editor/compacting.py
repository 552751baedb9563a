"""Re-consolidation: the facts of many edits trained together, kept only where that is verified.

What: `consolidate` (train all facts that count afresh, compare item by item with what is there), and
`Consolidation` with the reasons why it is not kept.
Why: facts that were taught edit after edit took the slots that were left; taught together, they share them
out anew. What that gains or loses is measured before a single row is replaced.
How: both states answer the same questions in the same batches. A group of questions passes where no more was
lost than gained; look-alikes pass where no more of them are answered with a stored target than before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from memedit.editor.gating import measured_text, suite_size
from memedit.editor.measuring import MAX_NEW_TOKENS, ask_all, known_before, look_alike_answers, probes_for
from memedit.editor.overlays import composed_overlay, wearing
from memedit.editor.reporting import outcome_after, peak_memory_mb, versions
from memedit.editor.results import CompactionRefused, Edit, FactOutcome
from memedit.editor.transaction import Injection
from memedit.evaluation import (
    Answered,
    Leak,
    Metric,
    measure_leak,
    measure_perplexity,
    perplexity_ratio,
    recall_metric,
)
from memedit.evaluation.recall import HELD_OUT_WORDING, QUESTION, TRAINED_WORDING, protocol
from memedit.evaluation.statistics import mcnemar_exact
from memedit.store import EditRecord, NewEdit, Patch, Store, StoredFact, compact
from memedit.store.compaction import (
    TAUGHT_BY,
    merged_edit,
    merged_facts,
    require_compactable,
    sizes,
    whole_withdrawals,
)

RETAINED = "retained"
_GROUPS = (TRAINED_WORDING, HELD_OUT_WORDING, QUESTION)


@dataclass(frozen=True)
class Compared:
    """One group of questions, asked of the edits as they are and of the facts trained anew.

    Attributes:
        name: the group.
        before: answers of the edits as they are.
        after: answers of what was trained anew, to the same questions.
    """

    name: str
    before: tuple[Answered, ...]
    after: tuple[Answered, ...]

    @property
    def lost(self) -> int:
        """Items right before and wrong after."""
        return sum(was.correct and not now.correct for was, now in self._pairs())

    @property
    def gained(self) -> int:
        """Items wrong before and right after."""
        return sum(now.correct and not was.correct for was, now in self._pairs())

    def lost_items(self) -> list[dict[str, str]]:
        """What was right before and is wrong after, with both answers, as JSON objects."""
        return [
            {"prompt": was.question.prompt, "before": was.text, "after": now.text}
            for was, now in self._pairs()
            if was.correct and not now.correct
        ]

    def to_json(self) -> dict[str, Any]:
        """Return both shares, and what changed with the exact McNemar test, as JSON values."""
        shares = {
            when: recall_metric(answered, self.name, protocol(self.name)).to_json()
            for when, answered in (("before", self.before), ("after", self.after))
        }
        p_value = mcnemar_exact(self.lost, self.gained)
        return {**shares, "lost": self.lost, "gained": self.gained, "p_value": p_value}

    def _pairs(self) -> list[tuple[Answered, Answered]]:
        return list(zip(self.before, self.after, strict=True))


@dataclass(frozen=True)
class Consolidation:
    """Facts trained together and compared, not in the store yet.

    Attributes:
        edits: those that it would replace.
        stored: their facts.
        outcomes: what became of each, on the model that it would be.
        patch: what it would add to the base.
        groups: recall by group of wordings, and what is left of what the base model knew.
        leaks: never-taught look-alikes answered with a stored target, before and after.
        perplexity_ratio: on general text, after / before.
        seconds: it took.
    """

    edits: tuple[EditRecord, ...]
    stored: tuple[StoredFact, ...]
    outcomes: tuple[FactOutcome, ...]
    patch: Patch
    groups: tuple[Compared, ...]
    leaks: tuple[Leak, Leak]
    perplexity_ratio: Metric
    seconds: float

    def reasons(self, max_loss: float = 0.0) -> list[str]:
        """Return why the edits are better left as they are; empty where this is equal or better throughout.

        Args:
            max_loss: share of each group that may be lost, net of what was gained.
        """
        reasons = [
            f"{group.name}: {group.lost} lost, {group.gained} gained of {len(group.before)}"
            for group in self.groups
            if group.lost - group.gained > max_loss * len(group.before)
        ]
        before, after = (len(leak.leaked) for leak in self.leaks)
        total = self.leaks[1].leak.n
        if after - before > max_loss * total:
            reasons.append(f"leak: {before} before, {after} after, of {total} look-alikes")
        ratio = self.perplexity_ratio
        lowest = ratio.value if math.isnan(ratio.low) else ratio.low
        # Written so that NaN fails.
        if not lowest <= 1 + max_loss:
            reasons.append(f"perplexity on general text is {ratio.value:.4f} times what it was")
        return reasons


def consolidate(injection: Injection, state: str, base_state: str) -> Consolidation:
    """Train every fact that counts afresh, together, and compare with the edits as they are.

    Args:
        injection: the model, its store and how facts are taught.
        state: names the model and its active edits, for the cache of measurements.
        base_state: names the model without edits.

    Raises:
        UsageError: where there is nothing to merge.
    """
    started = time.perf_counter()
    store, model, tokenizer = injection.store, injection.model, injection.tokenizer
    edits = require_compactable(store)
    stored = tuple(merged_facts(store.facts()))
    facts = [item.fact for item in stored]
    injection.withdraws = whole_withdrawals(edits)
    probes = probes_for(facts, tokenizer, injection.text, seed=injection.seed)
    size = suite_size(injection.limits.mode, len(facts))
    progress = injection.progress

    with wearing(model, None):
        known = known_before(
            model, tokenizer, store, base_state, None, progress, learned=False, size=size
        ).answered
        near_base = look_alike_answers(model, tokenizer, probes, "without edits", progress)
    text = measured_text(injection.text, size)
    perplexity = known_before(model, tokenizer, store, state, text, progress, size=size).perplexity
    assert perplexity is not None

    def asked(when: str) -> tuple[list[Answered], list[Answered], Leak]:
        answered = ask_all(
            model,
            tokenizer,
            probes.questions,
            probes.max_new_tokens,
            f"Asking about the facts {when}",
            progress,
        )
        kept = [item.question for item in known]
        still = ask_all(model, tokenizer, kept, MAX_NEW_TOKENS, "Asking what must stay", progress)
        near = look_alike_answers(model, tokenizer, probes, when, progress)
        return answered, still, measure_leak(probes.look_alikes, near_base, near, facts)

    before, kept_before, leak_before = asked("before")
    patch, result = injection.train(facts)
    with wearing(model, composed_overlay(model, [patch])):
        after, kept_after, leak_after = asked("after")
        ratio = perplexity_ratio(perplexity, measure_perplexity(model, tokenizer, text, progress=progress))
    outcomes = tuple(
        outcome_after(fact, str(item.outcome.get("before") or ""), after, result, index)
        for index, (fact, item) in enumerate(zip(facts, stored, strict=True))
    )
    groups = (
        *(_group(name, before, after) for name in _GROUPS),
        Compared(RETAINED, tuple(kept_before), tuple(kept_after)),
    )
    seconds = time.perf_counter() - started
    return Consolidation(edits, stored, outcomes, patch, groups, (leak_before, leak_after), ratio, seconds)


def _group(name: str, before: Sequence[Answered], after: Sequence[Answered]) -> Compared:
    first, second = (
        tuple(item for item in answered if item.question.group == name) for answered in (before, after)
    )
    return Compared(name, first, second)


def compacted(store: Store, *, dry_run: bool) -> Edit:
    """Merge all edits that count without a change of a single bit of their sum.

    Args:
        store: the edits.
        dry_run: commit nothing.

    Raises:
        UsageError: where there is nothing to merge.
    """
    if dry_run:
        return Edit(None, committed=False, outcomes=(), report={"edit": None, **merged_edit(store).report})
    record = compact(store)
    return Edit(record.id, committed=True, outcomes=(), report={**record.report, "edit": record.id})


def consolidation_edit(found: Consolidation, about: dict[str, Any], max_loss: float) -> Edit:
    """Return the edit, not committed, with its report.

    Args:
        found: what was measured.
        about: model, seed and the like.
        max_loss: share of each group that may be lost.
    """
    learned = sum(outcome.status == "learned" for outcome in found.outcomes)
    leaks = zip(("before", "after"), found.leaks, strict=True)
    report: dict[str, Any] = {
        "edit": None,
        "retrained": True,
        "merged": [edit.id for edit in found.edits],
        "counts": {
            "facts": len(found.outcomes),
            "learned": learned,
            "failed": len(found.outcomes) - learned,
        },
        **sizes(found.edits, found.patch),
        "compared": {group.name: group.to_json() for group in found.groups},
        "lost": {group.name: group.lost_items() for group in found.groups},
        "leak": {when: leak.leak.to_json() for when, leak in leaks},
        "perplexity_ratio": found.perplexity_ratio.to_json(),
        "max_loss": max_loss,
        "reasons": found.reasons(max_loss),
        "seconds": {"total": round(found.seconds, 2)},
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "versions": versions(),
        **about,
    }
    return Edit(None, committed=False, outcomes=found.outcomes, report=report)


def require_better(edit: Edit) -> None:
    """Raise CompactionRefused where what was trained is worse than what is there."""
    if edit.report["reasons"]:
        raise CompactionRefused(edit.report["reasons"], edit)


def new_consolidation(found: Consolidation, report: dict[str, Any], seed: int) -> NewEdit:
    """Return what the store is to keep."""
    return NewEdit(
        facts=tuple(outcome.fact for outcome in found.outcomes),
        outcomes=tuple(
            {**outcome.to_json(), TAUGHT_BY: item.outcome[TAUGHT_BY]}
            for outcome, item in zip(found.outcomes, found.stored, strict=True)
        ),
        patch=found.patch,
        report=report,
        seed=seed,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        kind="compact",
        withdraws=whole_withdrawals(found.edits),
    )
