"""Correcting facts: a new target for what is stored, in one edit that forgets the old and teaches the new.

What: `Correction`, the wordings that a correction inherits (`inheriting`), and the report of corrections.
Why: a correction is often one line with a prompt and a target; the wordings in which the old target was
taught ask the same question, and the new target has to be given there too.
How: the edit withdraws the old fact's rows and trains the new fact, with what else lost its rows; undoing it
brings the old answer back to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from memedit.evaluation import Answered, matches, recall_metric
from memedit.evaluation.matching import normalise
from memedit.evaluation.recall import HELD_OUT_WORDING, QUESTION, TRAINED_WORDING
from memedit.facts import Fact
from memedit.facts.rendering import wording_key
from memedit.store import StoredFact

_GROUPS = (TRAINED_WORDING, HELD_OUT_WORDING, QUESTION)
_HOW = "greedy generation, natural stop, exact match at the start of the answer, after the correction"


@dataclass(frozen=True)
class Correction:
    """A stored fact and the one that replaces it.

    Attributes:
        old: the stored fact.
        new: what is to be true now.
        same_question: whether both answer one question; else they merely share an id.
    """

    old: StoredFact
    new: Fact
    same_question: bool


def inheriting(facts: Sequence[Fact], corrections: Sequence[Correction]) -> list[Fact]:
    """Return new facts with the wordings of the facts that they replace, where they ask the same question.

    Args:
        facts: the new facts.
        corrections: what they replace.
    """
    found = []
    for fact in facts:
        told = [each.old.fact for each in corrections if each.new.id == fact.id and each.same_question]
        for old in (each for each in told if each.subject == fact.subject):
            probes = replace(
                fact.probes,
                paraphrases=fact.probes.paraphrases or old.probes.paraphrases,
                questions=fact.probes.questions or old.probes.questions,
            )
            wordings = fact.paraphrases or _others(fact.prompt, (old.prompt, *old.paraphrases))
            fact = replace(fact, paraphrases=wordings, probes=probes)
        found.append(fact)
    return found


def _others(prompt: str, wordings: Sequence[str]) -> tuple[str, ...]:
    return tuple(text for text in wordings if wording_key(text) != wording_key(prompt))


def corrections_report(corrections: Sequence[Correction], answered: Sequence[Answered]) -> dict[str, Any]:
    """Return what is reported of corrections.

    Args:
        corrections: what was replaced.
        answered: the new facts' questions, answered after the edit.

    Returns:
        `replaced`: old target -> new target of each; `says_new` and `says_old`: by group of wordings the
        share of answers that state the new and the old target.
    """
    new = {each.new.id: each.new for each in corrections}
    items = [item for item in answered if item.question.fact_id in new]
    says: dict[str, dict[str, Any]] = {"says_new": {}, "says_old": {}}
    for group in _GROUPS:
        asked = [item for item in items if item.question.group == group]
        old = [replace(item, correct=_says_old(item, corrections)) for item in asked]
        says["says_new"][group] = recall_metric(asked, group, f"{_HOW}, new target").to_json()
        says["says_old"][group] = recall_metric(old, group, f"{_HOW}, old target").to_json()
    texts = {item.question.fact_id: item.text for item in items if item.question.group == TRAINED_WORDING}
    replaced = [
        {
            "prompt": each.new.prompt,
            "old_id": each.old.fact.id,
            "old_target": each.old.fact.target,
            "old_edit": each.old.edit_id,
            "new_id": each.new.id,
            "new_target": each.new.target,
            "after": texts.get(each.new.id),
        }
        for each in corrections
    ]
    return {"replaced": replaced, **says}


def _says_old(item: Answered, corrections: Sequence[Correction]) -> bool:
    new = {normalise(answer) for answer in item.question.answers}
    old = [
        answer
        for each in corrections
        if each.new.id == item.question.fact_id
        for answer in each.old.fact.answers
        if normalise(answer) not in new
    ]
    return matches(item.text, old)
