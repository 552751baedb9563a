"""Recall: which facts a model answers right, by real generation.

What: `Question`, `Answered`, `questions_of` a fact, `ask_questions`, `answer_questions`, `recall_metric`.
Why: learned, learned in other wordings, and retained are all the same act: ask, generate, compare.
How: greedy generation with a natural stop (generation.py), exact match at the start of the answer
(matching.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.matching import matches, normalise
from memedit.evaluation.respondent import ModelRespondent, Respondent
from memedit.evaluation.statistics import Metric, share_metric
from memedit.facts import Fact
from memedit.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "HELD_OUT_WORDING",
    "METRICS",
    "QUESTION",
    "TRAINED_WORDING",
    "Answered",
    "Question",
    "answer_questions",
    "ask_questions",
    "protocol",
    "questions_of",
    "recall_metric",
]

TRAINED_WORDING = "trained_wording"
HELD_OUT_WORDING = "held_out_wording"
QUESTION = "question"

_GROUP_TEXT = {
    TRAINED_WORDING: "trained wording",
    HELD_OUT_WORDING: "held-out wordings",
    QUESTION: "question form never trained",
}


def protocol(group: str) -> str:
    """Return the protocol line of recall on a group of questions."""
    what = _GROUP_TEXT.get(group, group.replace("_", " "))
    return (
        f"greedy generation, natural stop, exact match of target or alias at the start of the answer, {what}"
    )


METRICS = tuple(
    MetricInfo(
        group, "inject", "right answers / questions", "memedit", protocol(group), higher_is_better=True
    )
    for group in _GROUP_TEXT
)
"""The catalogue's entries: what `memedit inject` reports of the facts that it taught."""


@dataclass(frozen=True)
class Question:
    """One prompt with the answers that count as right.

    Args:
        prompt: The prompt, without a trailing space.
        answers: The target and its aliases.
        group: What it measures, such as TRAINED_WORDING.
        fact_id: The fact that it asks for; wordings of one fact share it.
    """

    prompt: str
    answers: tuple[str, ...]
    group: str
    fact_id: str


@dataclass(frozen=True)
class Answered:
    """A question with a model's own answer.

    Args:
        question: What was asked.
        text: The generated answer; may be empty.
        correct: Whether it starts with an expected answer.
        confidence: Probability of the first generated token.
    """

    question: Question
    text: str
    correct: bool
    confidence: float


def questions_of(fact: Fact) -> tuple[Question, ...]:
    """Return the questions that measure whether a fact was learned.

    Args:
        fact: The fact.
    Returns:
        Its prompt (TRAINED_WORDING), its paraphrase probes (HELD_OUT_WORDING) and its question probes
        (QUESTION). A probe that is also a wording to teach is left out, since it is not held out.
    """
    taught = {normalise(wording) for wording in (fact.prompt, *fact.paraphrases)}
    probes = [(HELD_OUT_WORDING, prompt) for prompt in fact.probes.paraphrases]
    probes += [(QUESTION, prompt) for prompt in fact.probes.questions]
    held_out = [(group, prompt) for group, prompt in probes if normalise(prompt) not in taught]
    return tuple(
        Question(prompt, tuple(fact.answers), group, fact.id)
        for group, prompt in [(TRAINED_WORDING, fact.prompt), *held_out]
    )


def ask_questions(
    respondent: Respondent,
    questions: Sequence[Question],
    *,
    max_new_tokens: int = 16,
    description: str = "Answering",
) -> list[Answered]:
    """Ask a respondent every question.

    Args:
        respondent: Who is asked.
        questions: What to ask.
        max_new_tokens: Most tokens generated per answer; must hold the longest expected answer.
        description: What the progress shows.
    Returns:
        One answer per question, in order.
    """
    prompts = [question.prompt for question in questions]
    generations = respondent.answer(prompts, max_new_tokens=max_new_tokens, description=description)
    return [
        Answered(question, generation.text, matches(generation.text, question.answers), generation.confidence)
        for question, generation in zip(questions, generations, strict=True)
    ]


def answer_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    max_new_tokens: int = 16,
    progress: Progress = NULL_PROGRESS,
    description: str = "Answering",
) -> list[Answered]:
    """Ask a model every question; `ask_questions` of a model.

    Args:
        model: Any transformers causal LM.
        tokenizer: Its tokenizer.
        questions: What to ask.
        max_new_tokens: Most tokens generated per answer; must hold the longest expected answer.
        progress: Told of every answer.
        description: What the progress shows.
    Returns:
        One answer per question, in order.
    """
    asked = ModelRespondent(model, tokenizer, progress)
    return ask_questions(asked, questions, max_new_tokens=max_new_tokens, description=description)


def recall_metric(answered: Iterable[Answered], name: str, how: str | None = None) -> Metric:
    """Return the share of right answers with its Wilson interval.

    Args:
        answered: The answers to count.
        name: Name of the metric; also the group whose protocol is used when `how` is None.
        how: The protocol line, or None.
    Returns:
        The share; n counts questions, and the interval counts facts, since wordings of one fact are not
        independent.
    """
    items = list(answered)
    num_facts = len({item.question.fact_id for item in items})
    num_correct = sum(item.correct for item in items)
    return share_metric(name, num_correct, len(items), how or protocol(name), num_clusters=num_facts)
