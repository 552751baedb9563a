"""Look-alikes: what the model now says about entities that it was never taught.

What: `measure_leak` compares the answers to look-alike prompts before and after an edit.
Why: the first way in which an edit hallucinates is to answer for a neighbour of a taught subject (one who
shares a name, say) with an injected target.
How: the prompts come from memedit.facts.look_alikes; both models answer them; an answer that matches an
injected target after but not before has leaked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memedit.evaluation.matching import matches, normalise
from memedit.evaluation.statistics import Metric, share_metric

if TYPE_CHECKING:
    from memedit.facts import Fact, LookAlike

__all__ = ["Leak", "LeakedAnswer", "measure_leak"]


@dataclass(frozen=True)
class LeakedAnswer:
    """A never-taught entity that is now answered with an injected target.

    Args:
        prompt: What was asked.
        subject: The never-taught entity.
        before: The answer before the edit.
        after: The answer after it.
        fact_ids: The injected facts whose target it states.
    """

    prompt: str
    subject: str
    before: str
    after: str
    fact_ids: tuple[str, ...]


@dataclass(frozen=True)
class Leak:
    """What an edit did to look-alikes.

    Args:
        leak: Share answered with an injected target after the edit and not before.
        changed: Share whose answer changed at all.
        leaked: The leaked answers.
    """

    leak: Metric
    changed: Metric
    leaked: tuple[LeakedAnswer, ...]


def measure_leak(
    look_alikes: Sequence[LookAlike], before: Sequence[str], after: Sequence[str], injected: Iterable[Fact]
) -> Leak:
    """Measure how much of the injected facts leaked onto entities that were never taught.

    Args:
        look_alikes: The never-taught entities, asked in the wordings of the facts they resemble.
        before: The answer of the model before the edit to each of them.
        after: The answer of the model after it.
        injected: The injected facts.
    Returns:
        The shares with Wilson intervals, and the leaked answers.
    Raises:
        ValueError: the number of answers is not that of the look-alikes.
    """
    if not len(look_alikes) == len(before) == len(after):
        raise ValueError(
            "before and after must hold one answer per look-alike, got "
            f"{len(before)} and {len(after)} answers to {len(look_alikes)} look-alikes"
        )
    facts = list(injected)
    leaked = []
    for item, was, now in zip(look_alikes, before, after, strict=True):
        stated = tuple(
            fact.id for fact in facts if matches(now, fact.answers) and not matches(was, fact.answers)
        )
        if stated:
            leaked.append(LeakedAnswer(item.prompt, item.subject, was, now, stated))
    num_changed = sum(normalise(was) != normalise(now) for was, now in zip(before, after, strict=True))
    how = "never-taught look-alikes of the injected subjects, greedy generation, natural stop"
    total = len(look_alikes)
    return Leak(
        share_metric(
            "leak", len(leaked), total, f"{how}; answer starts with an injected target and did not before"
        ),
        share_metric(
            "look_alikes_changed", num_changed, total, f"{how}; normalised answer differs from before"
        ),
        tuple(leaked),
    )
