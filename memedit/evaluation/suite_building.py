"""Building a suite: from facts to what a model knows of them, with its answers as the baseline.

What: `suite_items` (candidates from facts), `build_suite` (asks, keeps what is right, records).
Why: a suite must hold what the model knows, not what somebody hopes that it knows; and an answer can flip by
rounding when its batch has another shape, so the baseline is recorded by asking exactly the suite.
How: everything is asked once; what is right, and everything injected, is kept; the kept items are asked again
by themselves. The choice among too many is seeded.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from memedit.errors import SuiteError
from memedit.evaluation.matching import normalise
from memedit.evaluation.recall import Answered, Question
from memedit.evaluation.regression import answers_of
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.retention import INJECTED, WELL_KNOWN
from memedit.evaluation.suites import (
    DEFAULT_MAX_LOSS,
    Collect,
    GivenAnswer,
    Suite,
    SuiteItem,
)
from memedit.facts import Fact

__all__ = ["BuiltSuite", "NothingKnown", "SuiteSettings", "build_suite", "recorded_items", "suite_items"]


class NothingKnown(SuiteError):
    """Of what was to go into a suite the model knows nothing."""


@dataclass(frozen=True)
class SuiteSettings:
    """What a new suite is to be like.

    Args:
        collect: Whether pytest and JUnit count one test for each "fact" or "group".
        max_loss: Share that may be lost, in [0, 1].
        max_items: Most items; groups get room in their order, and where one is too large the seed decides.
        seed: Seed of that choice.
    """

    collect: Collect = "fact"
    max_loss: float = DEFAULT_MAX_LOSS
    max_items: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class BuiltSuite:
    """A suite and what it was chosen from.

    Args:
        suite: The suite with its baseline.
        asked: For each group, how many items were asked.
        unknown: Injected items that are in the suite although they are answered wrong now.
    """

    suite: Suite
    asked: Mapping[str, int]
    unknown: tuple[SuiteItem, ...]


def suite_items(
    well_known: Iterable[Fact],
    injected: Iterable[Fact] = (),
    given: Iterable[Question] = (),
    *,
    present: Collection[SuiteItem] = (),
) -> list[SuiteItem]:
    """Return the items that facts and questions make.

    Args:
        well_known: Facts that any model should keep, each in its own prompt.
        injected: Facts that were taught and learned, each in its own prompt.
        given: Further questions, in groups of their own.
        present: Items that a suite has already; what they ask is left out.
    Returns:
        Items without a baseline. A prompt that occurs twice is asked for the injected fact, else as given;
        an id that is taken gets a number.
    """
    asked = [*_in_group(INJECTED, injected), *given, *_in_group(WELL_KNOWN, well_known)]
    prompts = {normalise(item.prompt) for item in present}
    ids = {item.id for item in present}
    items: list[SuiteItem] = []
    for question in asked:
        key = normalise(question.prompt)
        if key not in prompts:
            name = _free_name(question.fact_id, ids)
            prompts.add(key)
            ids.add(name)
            items.append(SuiteItem(name, question.prompt, question.answers, question.group))
    return items


def recorded_items(answered: Iterable[Answered]) -> list[SuiteItem]:
    """Return the items that answers make, with these as their baseline.

    Args:
        answered: Questions with what was answered; where a prompt occurs twice, the first one counts.
    """
    first: dict[str, Answered] = {}
    for each in answered:
        first.setdefault(normalise(each.question.prompt), each)
    ids: set[str] = set()
    items = []
    for each in first.values():
        asked, name = each.question, _free_name(each.question.fact_id, ids)
        ids.add(name)
        given = GivenAnswer(each.text, each.correct, each.confidence)
        items.append(SuiteItem(name, asked.prompt, asked.answers, asked.group, given))
    return items


def build_suite(
    respondent: Respondent, items: Sequence[SuiteItem], settings: SuiteSettings | None = None
) -> BuiltSuite:
    """Make a suite of what a model knows now.

    Args:
        respondent: The model.
        items: Candidates, from `suite_items`.
        settings: What the suite is to be like; None takes the defaults.
    Returns:
        The suite: the items answered right, and every injected one.
    Raises:
        NothingKnown: there is no such item.
        SuiteError: a setting is out of range.
    """
    settings = settings or SuiteSettings()
    first = answers_of(respondent, items, "Finding what the model knows")
    known = [
        item for item, answer in zip(items, first, strict=True) if answer.correct or item.group == INJECTED
    ]
    chosen = _at_most(known, settings.max_items, settings.seed)
    answers = answers_of(respondent, chosen, "Recording the baseline")
    recorded = [replace(item, baseline=answer) for item, answer in zip(chosen, answers, strict=True)]
    # What the second pass flips by rounding was never known.
    kept = [item for item in recorded if item.known_before or item.group == INJECTED]
    if not kept:
        raise NothingKnown(
            f"the model answers none of {len(items)} items right, so there is nothing to hold",
            remedy="Name facts that it knows with --facts, or inject some first.",
        )
    suite = Suite(tuple(kept), settings.collect, settings.max_loss, seed=settings.seed)
    unknown = tuple(item for item in kept if not item.known_before)
    return BuiltSuite(suite, Counter(item.group for item in items), unknown)


def _in_group(group: str, facts: Iterable[Fact]) -> list[Question]:
    return [Question(fact.prompt, tuple(fact.answers), group, fact.id) for fact in facts]


def _at_most(items: Sequence[SuiteItem], max_items: int | None, seed: int) -> list[SuiteItem]:
    if max_items is None or len(items) <= max_items:
        return list(items)
    places: list[int] = []
    for group in dict.fromkeys(item.group for item in items):
        members = [place for place, item in enumerate(items) if item.group == group]
        room = max_items - len(places)
        picked = members if len(members) <= room else random.Random(seed).sample(members, room)
        places += picked
    return [items[place] for place in sorted(places)]


def _free_name(name: str, taken: Collection[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
