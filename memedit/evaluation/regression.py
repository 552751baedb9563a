"""The regression test of retained knowledge: what a model answers now, against a suite's baseline.

What: `run_suite` and what it returns: `SuiteResult` with the verdicts on items (`ItemResult`) and on every
group (`GroupResult`); suite_cases.py makes tests of it for pytest and JUnit.
Why: a test that fails on noise is switched off; one that compares averages does not see what was lost. So
every item is compared with itself, and the loss is judged by an exact test.
How: of the items that were right, some are lost. A one-sided binomial test (retention.py, the gate's own)
says whether more were lost than the suite allows, over all items at 5 %, and for each group at 5 % divided by
the number of groups (Bonferroni), so that many groups do not add up to a false alarm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from memedit.evaluation.asking import budgets
from memedit.evaluation.matching import matches
from memedit.evaluation.recall import Answered
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.retention import SIGNIFICANCE, Change, Retention, compare, loss_p_value
from memedit.evaluation.statistics import Metric
from memedit.evaluation.suites import GivenAnswer, Suite, SuiteItem

if TYPE_CHECKING:
    from memedit.evaluation.generation import Generation

__all__ = ["ALL_GROUPS", "GroupResult", "ItemResult", "SuiteResult", "answers_of", "run_suite"]

ALL_GROUPS = "all groups"
"""Name of what is judged over all items; no group can have it, since a group's name has no space."""


@dataclass(frozen=True)
class ItemResult:
    """One item, before and now.

    Args:
        item: The item with its baseline.
        now: What the model answers now.
    """

    item: SuiteItem
    now: GivenAnswer

    @property
    def lost(self) -> bool:
        """Whether it was right and is wrong."""
        return self.item.known_before and not self.now.correct

    @property
    def gained(self) -> bool:
        """Whether it was wrong and is right."""
        return self.now.correct and not self.item.known_before


@dataclass(frozen=True)
class GroupResult:
    """A group's loss and the verdict on it.

    Args:
        name: The group, or ALL_GROUPS.
        retention: What was kept and lost.
        max_loss: Share that may be lost.
        p_value: Probability of losing so much or more by chance at that share.
        significance: The loss is beyond chance where the p-value is below this.
    """

    name: str
    retention: Retention
    max_loss: float
    p_value: float
    significance: float

    @property
    def passed(self) -> bool:
        """Whether the loss is within what is allowed and what chance explains."""
        return not self.p_value < self.significance

    def describe(self) -> str:
        """Return the loss and its test in one sentence without an end."""
        lost, right = len(self.retention.lost), self.retention.right_before
        share = f" ({self.retention.forgetting:.1%})" if right else ""
        if not self.passed:
            relation = "more than"
        elif lost <= self.max_loss * right:
            relation = "within"
        else:
            relation = "not significantly more than"
        return (
            f"{self.name}: {lost} of {right} lost{share}, {relation} the allowed {self.max_loss:.1%} "
            f"(p = {self.p_value:.2g}, limit {self.significance:.2g})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that `memedit test --json` prints."""
        metric = {key: value for key, value in self.retention.metric.to_json().items() if key != "name"}
        counts = {"lost": len(self.retention.lost), "gained": self.retention.gained}
        test = {"max_loss": self.max_loss, "p_value": self.p_value, "significance": self.significance}
        return {"name": self.name, "passed": self.passed, **counts, **test, "retained": metric}


@dataclass(frozen=True)
class SuiteResult:
    """What a model still knows of a suite.

    Args:
        suite: The suite.
        items: Every item, in the suite's order.
        overall: The verdict over all items.
        groups: The verdicts on the groups.
        seconds: How long the asking took.
    """

    suite: Suite
    items: tuple[ItemResult, ...]
    overall: GroupResult
    groups: tuple[GroupResult, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing was lost beyond what is allowed, in any group and over all."""
        return self.overall.passed and all(group.passed for group in self.groups)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it did not pass, one sentence for each limit exceeded."""
        return tuple(each.describe() for each in (self.overall, *self.groups) if not each.passed)

    @property
    def retention(self) -> Retention:
        """What was kept and lost, over all items."""
        return self.overall.retention

    @property
    def metric(self) -> Metric:
        """The share of what was right that is right now, with its interval."""
        return self.overall.retention.metric

    @property
    def lost(self) -> tuple[Change, ...]:
        """What was right and is wrong, with both texts."""
        return self.overall.retention.lost

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON values, with the items that were lost or gained."""
        return {
            "passed": self.passed,
            "reasons": list(self.reasons),
            "overall": self.overall.to_json(),
            "groups": [group.to_json() for group in self.groups],
            "lost": [_item_json(result) for result in self.items if result.lost],
            "gained": [_item_json(result) for result in self.items if result.gained],
            "seconds": round(self.seconds, 2),
        }


def run_suite(
    respondent: Respondent,
    suite: Suite,
    *,
    max_loss: float | None = None,
    description: str = "Asking what must stay",
) -> SuiteResult:
    """Ask a model everything in a suite, in one pass, and judge what was lost.

    Args:
        respondent: Who is asked.
        suite: What it must know, and how much may be lost.
        max_loss: Allowed share instead of the suite's; groups with a limit of their own keep it.
        description: What the progress shows.
    Returns:
        The verdict.
    Raises:
        ValueError: max_loss is not in [0, 1].
    """
    if max_loss is not None and not 0 <= max_loss <= 1:
        raise ValueError(f"max_loss must lie between 0 and 1, got {max_loss}")
    started = time.perf_counter()
    answers = answers_of(respondent, suite.items, description)
    items = tuple(ItemResult(item, answer) for item, answer in zip(suite.items, answers, strict=True))
    seconds = time.perf_counter() - started
    allowed = suite.max_loss if max_loss is None else max_loss
    overall = _judged(ALL_GROUPS, items, allowed, SIGNIFICANCE)
    groups = tuple(
        _judged(
            name,
            [result for result in items if result.item.group == name],
            suite.group_max_loss.get(name, allowed),
            SIGNIFICANCE / len(suite.groups),
        )
        for name in suite.groups
    )
    return SuiteResult(suite, items, overall, groups, seconds)


def answers_of(respondent: Respondent, items: Sequence[SuiteItem], description: str) -> list[GivenAnswer]:
    """Ask items: in one call, unless some expect longer answers than most.

    Args:
        respondent: Who is asked.
        items: What is asked.
        description: What the progress shows.
    Returns:
        One answer for each item, in order.
    """
    limits = budgets(respondent, [(item.prompt, item.answers) for item in items])
    told: dict[str, Generation] = {}
    for limit in sorted(set(limits.values())):
        prompts = [prompt for prompt, budget in limits.items() if budget == limit]
        generations = respondent.answer(prompts, max_new_tokens=limit, description=description)
        told.update(zip(prompts, generations, strict=True))
    return [_given(told[item.prompt], item.answers) for item in items]


def _given(generation: Generation, answers: Sequence[str]) -> GivenAnswer:
    return GivenAnswer(generation.text, matches(generation.text, answers), generation.confidence)


def _judged(name: str, items: Sequence[ItemResult], max_loss: float, significance: float) -> GroupResult:
    before, after = [], []
    for result in items:
        question, baseline = result.item.question, result.item.baseline
        text = "" if baseline is None else baseline.text
        before.append(Answered(question, text, result.item.known_before, math.nan))
        after.append(Answered(question, result.now.text, result.now.correct, math.nan))
    retention = compare(before, after)
    return GroupResult(name, retention, max_loss, loss_p_value(retention, max_loss), significance)


def _item_json(result: ItemResult) -> dict[str, Any]:
    baseline = result.item.baseline
    return {
        "id": result.item.id,
        "group": result.item.group,
        "prompt": result.item.prompt,
        "answers": list(result.item.answers),
        "before": None if baseline is None else asdict(baseline),
        "now": asdict(result.now),
    }
