"""The tests that a suite makes, as pytest and JUnit show them: one for each fact, or one for each group.

What: `case_names`, known before any question is asked, and `cases_of` a result.
Why: a test's name must not depend on the model; and a single lost fact that the suite's allowance covers is
worth showing, but no failure, or noise would fail the build.
How: with `collect = "fact"` a lost item fails where its group, or everything together, lost more than
allowed; elsewhere it is "tolerated". One case fails exactly when the suite does not pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memedit.evaluation.regression import ALL_GROUPS, GroupResult, ItemResult, SuiteResult
from memedit.evaluation.suites import GivenAnswer, Suite

__all__ = ["Case", "case_names", "cases_of", "described"]

Outcome = Literal["passed", "failed", "tolerated", "not_known"]


@dataclass(frozen=True)
class Case:
    """One test.

    Args:
        name: The item's id, the group, or ALL_GROUPS.
        group: The group that it belongs to.
        outcome: "failed" for what was lost where the loss is a regression; "tolerated" for an item lost
            where it is not; "not_known" for an item that was wrong before and is wrong now; else "passed".
        message: The verdict in one line.
        items: The items to show: the item itself, or what the group lost.
    """

    name: str
    group: str
    outcome: Outcome
    message: str
    items: tuple[ItemResult, ...]

    @property
    def title(self) -> str:
        """What people read: the prompt of a single item beside its name, else the name alone."""
        is_item = len(self.items) == 1 and self.items[0].item.id == self.name
        return f"{self.items[0].item.prompt} [{self.name}]" if is_item else self.name

    def detail(self) -> str:
        """Return the message, and below it each item with what was expected, said before and said now."""
        return "\n".join([self.message, *map(described, self.items)])


def described(result: ItemResult) -> str:
    """Return an item's prompt, expected answers and both given ones; line breaks and the like escaped."""
    baseline = result.item.baseline
    before = "(no baseline: it must be right)" if baseline is None else _said(baseline)
    return "\n".join(
        [
            f"  {result.item.prompt!r}",
            f"    expected  {' or '.join(map(repr, result.item.answers))}",
            f"    before    {before}",
            f"    now       {_said(result.now)}",
        ]
    )


def _said(answer: GivenAnswer) -> str:
    sure = "" if answer.confidence is None else f"  (confidence {answer.confidence:.2f})"
    return f"{answer.text!r}{sure}"


def case_names(suite: Suite) -> tuple[str, ...]:
    """Return the names of the tests that a suite makes.

    Args:
        suite: The suite.
    Returns:
        The ids of the items, or the groups and ALL_GROUPS (left out where there is one group only).
    """
    if suite.collect == "fact":
        return tuple(item.id for item in suite.items)
    return suite.groups if len(suite.groups) == 1 else (*suite.groups, ALL_GROUPS)


def cases_of(result: SuiteResult) -> tuple[Case, ...]:
    """Return the tests of a result, named and ordered as `case_names` says.

    Args:
        result: What `run_suite` returned.
    """
    if result.suite.collect == "fact":
        groups = {group.name: group for group in result.groups}
        return tuple(_fact_case(item, groups[item.item.group], result.overall) for item in result.items)
    judged = result.groups if len(result.groups) == 1 else (*result.groups, result.overall)
    return tuple(_group_case(group, result) for group in judged)


def _fact_case(result: ItemResult, group: GroupResult, overall: GroupResult) -> Case:
    outcome: Outcome = "passed"
    message = "right"
    if result.lost:
        beyond = [each for each in (group, overall) if not each.passed]
        outcome = "failed" if beyond else "tolerated"
        message = "; ".join(each.describe() for each in beyond or [group])
    elif not result.now.correct:
        outcome, message = "not_known", "wrong at the baseline and wrong now"
    return Case(result.item.id, result.item.group, outcome, message, (result,))


def _group_case(group: GroupResult, result: SuiteResult) -> Case:
    lost = [item for item in result.items if item.lost and group.name in (item.item.group, ALL_GROUPS)]
    return Case(group.name, group.name, "passed" if group.passed else "failed", group.describe(), tuple(lost))
