"""Forgotten on purpose: what the model says of facts that were taken out, and of those that were to stay.

What: `forgotten` compares the answers about forgotten facts with the base model's, and the answers about
other stored facts with those before.
Why: that a fact was taken out shows in what the model says, not in what was deleted.
How: the same questions to each state of the model, in the same batches; equal means the same text.
"""

from __future__ import annotations

from collections.abc import Sequence

from memedit.evaluation.asking import GENERATION
from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.recall import HELD_OUT_WORDING, QUESTION, TRAINED_WORDING, Answered
from memedit.evaluation.statistics import Metric, share_metric

__all__ = ["METRICS", "forgotten"]

_GROUPS = (TRAINED_WORDING, HELD_OUT_WORDING, QUESTION)
_ABOUT = "answers about forgotten facts"


def _info(name: str, formula: str, protocol: str, *, higher_is_better: bool) -> MetricInfo:
    protocol = f"{GENERATION}; {protocol}"
    return MetricInfo(name, "forget", formula, "memedit", protocol, higher_is_better)


METRICS = (
    *(
        _info(
            f"as_base_{group}",
            "answers as the base model's / questions",
            f"{_ABOUT} equal to the base model's, {group.replace('_', ' ')}",
            higher_is_better=True,
        )
        for group in _GROUPS
    ),
    _info(
        "still_said",
        "answers that state the forgotten target / questions",
        f"{_ABOUT} that state the target all the same, all wordings",
        higher_is_better=False,
    ),
    _info(
        "others_unchanged",
        "answers as before / questions",
        "other stored facts whose answer is the same text as before, all wordings",
        higher_is_better=True,
    ),
)
"""The catalogue's entries: what `memedit forget` reports."""

_PROTOCOLS = {info.name: info.protocol for info in METRICS}


def forgotten(
    base: Sequence[Answered],
    after: Sequence[Answered],
    others_before: Sequence[Answered],
    others_after: Sequence[Answered],
) -> list[Metric]:
    """Measure a forgetting.

    Args:
        base: Questions about the forgotten facts, answered by the base model.
        after: The same, answered by the model without the facts.
        others_before: Questions about other stored facts, answered before.
        others_after: The same, answered by the model without the facts.

    Returns:
        One metric an entry of METRICS, with Wilson intervals over facts.

    Raises:
        ValueError: Where two lists that belong together differ in length.
    """
    pairs = list(zip(base, after, strict=True))
    metrics = [
        _share(f"as_base_{group}", [(was, now) for was, now in pairs if now.question.group == group])
        for group in _GROUPS
    ]
    said = sum(item.correct for item in after)
    metrics.append(_metric("still_said", said, after))
    metrics.append(_share("others_unchanged", list(zip(others_before, others_after, strict=True))))
    return metrics


def _share(name: str, pairs: Sequence[tuple[Answered, Answered]]) -> Metric:
    return _metric(name, sum(was.text == now.text for was, now in pairs), [now for _, now in pairs])


def _metric(name: str, count: int, asked: Sequence[Answered]) -> Metric:
    facts = {item.question.fact_id for item in asked}
    return share_metric(name, count, len(asked), _PROTOCOLS[name], num_clusters=len(facts))
