"""From measurements to outcomes and the report of an edit (what `memedit inject --json` prints)."""

import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from memedit.editing.plan import EditResult
from memedit.editor.results import FactOutcome
from memedit.evaluation import Answered, GateDecision, Leak, Metric, Retention, recall_metric
from memedit.evaluation.recall import HELD_OUT_WORDING, QUESTION, TRAINED_WORDING
from memedit.facts import Fact


@dataclass(frozen=True)
class Measurements:
    """What was measured after an edit, compared with before.

    Attributes:
        answered: the facts' questions, answered after the edit.
        retention: the retention suite.
        perplexity_ratio: on general text.
        leak: never-taught look-alikes.
        gate: the decision.
    """

    answered: tuple[Answered, ...]
    retention: Retention
    perplexity_ratio: Metric
    leak: Leak
    gate: GateDecision


def outcome_after(
    fact: Fact, before: str, answered: Sequence[Answered], result: EditResult, index: int
) -> FactOutcome:
    """Say what became of a fact that was taught.

    Args:
        fact: the fact.
        before: the answer to its prompt before the edit.
        answered: all answers after the edit.
        result: what training did.
        index: the fact's place in the edit.
    """
    own = [item for item in answered if item.question.fact_id == fact.id]
    trained = next(item for item in own if item.question.group == TRAINED_WORDING)
    note = None
    if not trained.correct:
        note = _why_failed(int(result.num_rows[index]), int(result.num_wordings[index]))
    return FactOutcome(
        fact,
        "learned" if trained.correct else "failed",
        before,
        trained.text,
        tuple(item.correct for item in own if item.question.group == HELD_OUT_WORDING),
        tuple(item.correct for item in own if item.question.group == QUESTION),
        note,
    )


def _why_failed(num_rows: int, num_wordings: int) -> str:
    if num_rows == 0:
        return "no free slot tells this subject from others; give a longer subject or more wordings"
    if num_rows < num_wordings:
        return f"its gate opened in {num_rows} of {num_wordings} wordings only; give more wordings"
    return "not learned within the training budget; give more wordings or a shorter target"


def report_of(
    outcomes: Sequence[FactOutcome],
    measured: Measurements | None,
    *,
    seconds: dict[str, float],
    slots_written: int,
    patch_bytes: int,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Build the report.

    Args:
        outcomes: of every fact of the file.
        measured: None when nothing had to be taught.
        seconds: total, training, evaluation.
        slots_written: rows of the patch.
        patch_bytes: size of its file.
        about: model, seed, versions and the like, taken over as they are.
    """
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    report: dict[str, Any] = {
        "edit": None,
        "counts": {
            "facts": len(outcomes),
            "already_known": sum(outcome.status == "already_known" for outcome in outcomes),
            "stored": sum(outcome.status == "stored" for outcome in outcomes),
            "learned": sum(outcome.status == "learned" for outcome in outcomes),
            "learned_in_other_wordings": sum(outcome.learned_in_other_wordings for outcome in outcomes),
            "failed": len(failed),
        },
        "metrics": {} if measured is None else _metrics(measured),
        "retained_lost": [] if measured is None else lost_items(measured.retention),
        "leaked": [] if measured is None else [asdict(item) for item in measured.leak.leaked],
        "not_learned": [
            {"id": item.fact.id, "prompt": item.fact.prompt, "answer": item.after, "reason": item.note}
            for item in failed
        ],
        "gate": None if measured is None else asdict(measured.gate),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "slots_written": slots_written,
        "patch_bytes": patch_bytes,
    }
    return {**report, **about}


def _metrics(measured: Measurements) -> dict[str, Any]:
    by_group = {
        group: [item for item in measured.answered if item.question.group == group]
        for group in (TRAINED_WORDING, HELD_OUT_WORDING, QUESTION)
    }
    metrics = [recall_metric(items, group) for group, items in by_group.items()]
    metrics += [
        measured.retention.metric,
        measured.perplexity_ratio,
        measured.leak.leak,
        measured.leak.changed,
    ]
    return {
        metric.name: {key: value for key, value in metric.to_json().items() if key != "name"}
        for metric in metrics
    }


def lost_items(retention: Retention) -> list[dict[str, str]]:
    """Return what was right before and is wrong after, with both answers, as JSON objects."""
    return [
        {"prompt": change.question.prompt, "before": change.before, "after": change.after}
        for change in retention.lost
    ]


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def versions() -> dict[str, str]:
    """Versions of what decides an edit's bits."""
    import torch
    import transformers

    from memedit import __version__

    return {
        "memedit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
