"""Asking together: what several metric families want to know, put to a respondent in as few calls as can be.

What: `Inquiry` (what one family asks, and what it makes of the answers), `Told` (the answers), `ask`.
Why: families ask the same prompts (the fact's own stands in most of them), and a batch is full only when all
prompts are there to be sorted by length; asked one family at a time, the same numbers take twice as long.
How: prompts and pairs are collected first, each distinct one is asked once. A prompt's token budget is the
smallest of 16, 32, 64, ... that holds the longest of its expected answers and four tokens more, so it depends
on that prompt alone, whatever else is asked; one call for each budget that occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memedit.evaluation.respondent import Respondent
from memedit.evaluation.samples import Evaluation, joined

if TYPE_CHECKING:
    from memedit.evaluation.generation import Generation
    from memedit.evaluation.scoring import Scored

__all__ = ["GENERATION", "TEACHER_FORCED", "Inquiry", "Told", "ask", "budgets"]

GENERATION = (
    "greedy generation, natural stop, at most 16 new tokens, or as many of 32, 64, ... as hold the longest "
    "expected answer"
)
"""How answers are generated, for protocol lines."""

TEACHER_FORCED = "teacher forced: each token of the target given those before"
"""How given answers are scored, for protocol lines."""

_SHORTEST_BUDGET = 16
# An article, a quote or a "called" may stand in front, and joining may tokenise the answer otherwise.
_ROOM = 4


@dataclass(frozen=True)
class Told:
    """What a respondent said.

    Args:
        answers: Its generation for each prompt.
        scores: Its score of each (prompt, continuation).
    """

    answers: Mapping[str, Generation]
    scores: Mapping[tuple[str, str], Scored]


@dataclass(frozen=True)
class Inquiry:
    """What one metric family asks, and what it makes of the answers.

    Args:
        questions: Prompts to answer, each with the answers that are expected (they set the token budget) or
            with none.
        pairs: (prompt, continuation) to score.
        judge: Makes the family's evaluation of what was told; everything asked here is in it.
    """

    questions: Sequence[tuple[str, tuple[str, ...]]]
    pairs: Sequence[tuple[str, str]]
    judge: Callable[[Told], Evaluation]


def ask(respondent: Respondent, inquiries: Iterable[Inquiry], *, what: str = "the facts") -> Evaluation:
    """Ask a respondent everything that the inquiries want to know, and judge it.

    Args:
        respondent: Who is asked: once for all scores, and once for all answers of one budget.
        inquiries: What is asked.
        what: What the questions are about, for the progress.
    Returns:
        The evaluations of all inquiries, joined in their order.
    """
    kept = list(inquiries)
    answers: dict[str, Generation] = {}
    by_budget: dict[int, list[str]] = {}
    wanted = [question for inquiry in kept for question in inquiry.questions]
    for prompt, budget in budgets(respondent, wanted).items():
        by_budget.setdefault(budget, []).append(prompt)
    for budget, prompts in sorted(by_budget.items()):
        told = respondent.answer(prompts, max_new_tokens=budget, description=f"Asking about {what}")
        answers.update(zip(prompts, told, strict=True))
    pairs = list(dict.fromkeys(pair for inquiry in kept for pair in inquiry.pairs))
    scored = respondent.score(pairs, description=f"Scoring answers about {what}") if pairs else []
    heard = Told(answers, dict(zip(pairs, scored, strict=True)))
    return joined(inquiry.judge(heard) for inquiry in kept)


def budgets(respondent: Respondent, questions: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, int]:
    """Return how many tokens each distinct prompt may be answered with.

    Args:
        respondent: Counts tokens.
        questions: Prompts with their expected answers.
    Returns:
        By prompt, in the order of first appearance: the smallest of 16, 32, 64, ... that holds the longest
        answer that any question of this prompt expects, and four tokens more.
    """
    asked = list(questions)
    texts = list(dict.fromkeys(f" {answer}" for _, answers in asked for answer in answers))
    lengths = dict(zip(texts, respondent.count_tokens(texts) if texts else [], strict=True))
    found: dict[str, int] = {}
    for prompt, answers in asked:
        needed = max((lengths[f" {answer}"] + _ROOM for answer in answers), default=0)
        found[prompt] = max(found.get(prompt, _SHORTEST_BUDGET), _budget(needed))
    return found


def _budget(needed: int) -> int:
    budget = _SHORTEST_BUDGET
    while budget < needed:
        budget *= 2
    return budget
