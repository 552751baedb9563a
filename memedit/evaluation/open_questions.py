"""Held-out questions: what a model still knows that no edit spoke of, by SQuAD's exact match and F1.

What: `open_questions`, `open_questions_inquiry`, `relative_drop`, `open_retention_questions`.
Why: the retention suite holds what the model gets right; a benchmark of open questions (NQ-open, TriviaQA,
PopQA) also shows what it half knows, and its F1 before and after an edit is how forgetting is reported.
How: each question behind four examples with short answers, greedy generation. The drop is relative to the
model before, (F1 before - F1 after) / F1 before, over the same questions, with a paired bootstrap.

Source: relative drop of held-out F1: Lin et al. (2025), Continual Learning via Sparse Memory Finetuning,
section 4. EM and F1: see question_answering.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from memedit.evaluation.answer_measures import (
    GENERATED,
    Asked,
    generated_samples,
    group_metrics,
    metric_infos,
)
from memedit.evaluation.asking import Inquiry, Told, ask
from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.question_prompts import SHORT_ANSWERS, question_prompt
from memedit.evaluation.recall import Question
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.samples import Evaluation, Sample
from memedit.evaluation.statistics import Metric, widened_interval
from memedit.facts import QuestionRecord

__all__ = [
    "METRICS",
    "OPEN_QUESTION",
    "open_questions",
    "open_questions_inquiry",
    "open_retention_questions",
    "relative_drop",
]

OPEN_QUESTION = "open_question"
"""The group of retention questions that come from a benchmark, and the beginning of the metrics' names."""

_WHAT = "open question behind four examples with short answers"
_DROP = "open_question_relative_drop"
_RESAMPLES = 2000

METRICS = (
    *metric_infos(OPEN_QUESTION, "retained", _WHAT, GENERATED),
    MetricInfo(
        _DROP,
        "retained",
        "(sum of F1 before - sum of F1 after) / sum of F1 before, over the same questions",
        "Lin et al. 2025, Continual Learning via Sparse Memory Finetuning, section 4",
        f"open_question_squad_f1 of both models, {_WHAT}",
        higher_is_better=False,
    ),
)
"""The catalogue's entries."""


def open_questions(respondent: Respondent, records: Sequence[QuestionRecord], *, seed: int = 0) -> Evaluation:
    """Measure how many open questions a model answers.

    Args:
        respondent: Who is asked.
        records: The questions; those without an answer are left out, with a note.
        seed: Seed of the intervals.
    Returns:
        open_question_exact_match, open_question_contains, open_question_squad_em, open_question_squad_f1; n
        counts questions.
    """
    return ask(respondent, [open_questions_inquiry(records, seed=seed)], what="held-out questions")


def open_questions_inquiry(records: Sequence[QuestionRecord], *, seed: int) -> Inquiry:
    """Return what `open_questions` asks, to be asked together with other families."""
    asked = [
        Asked(f"{record.id}/open", record.id, question_prompt(record.question, SHORT_ANSWERS), record.answers)
        for record in records
        if record.answers
    ]
    num_without = len(records) - len(asked)

    def judge(told: Told) -> Evaluation:
        notes = (f"{num_without} questions have no answer and were not asked",) if num_without else ()
        if not asked:
            return Evaluation((), notes=(*notes, "open questions were not measured: there are none"))
        samples = [sample for one in asked for sample in generated_samples(OPEN_QUESTION, one, told)]
        found = group_metrics(OPEN_QUESTION, _WHAT, samples, GENERATED, seed=seed)
        return Evaluation(found.metrics, found.samples, notes)

    return Inquiry([(one.prompt, one.answers) for one in asked], (), judge)


def relative_drop(before: Evaluation, after: Evaluation, *, seed: int = 0) -> Metric:
    """Return how much of the F1 on held-out questions an edit cost.

    Args:
        before: What `open_questions` found of the model before.
        after: The same of the model after it, for the same questions.
        seed: Seed of the interval.
    Returns:
        open_question_relative_drop: 0 where nothing was lost, 1 where all was, negative where F1 rose; NaN
        where the model before got no F1 at all. n counts questions, the interval is a paired bootstrap, or
        that of `widened_interval` where all questions agree.
    Raises:
        ValueError: the two do not hold the same questions.
    """
    first, second = _f1_by_item(before), _f1_by_item(after)
    if first.keys() != second.keys():
        raise ValueError(
            f"before and after must hold the same questions, got {len(first)} and {len(second)} with "
            f"{len(first.keys() ^ second.keys())} that are in one only"
        )
    how = f"greedy generation, SQuAD F1, {_WHAT}; (before - after) / before, paired bootstrap over questions"
    was = np.array([first[item] for item in first])
    now = np.array([second[item] for item in first])
    if not was.sum() > 0:
        return Metric(_DROP, math.nan, len(was), math.nan, math.nan, how)
    picks = np.random.default_rng(seed).integers(0, len(was), size=(_RESAMPLES, len(was)))
    sums = was[picks].sum(axis=1)
    # A resample without any F1 before has no drop.
    drops = 1 - now[picks].sum(axis=1)[sums > 0] / sums[sums > 0]
    low, high = (float(end) for end in np.percentile(drops, (2.5, 97.5)))
    value = float(1 - now.sum() / was.sum())
    # F1 may rise without limit, relative to what it was.
    ends = widened_interval((low, high), value, len(was), (-math.inf, 1.0))
    return Metric(_DROP, value, len(was), *ends, how)


def open_retention_questions(records: Iterable[QuestionRecord]) -> list[Question]:
    """Return a benchmark's questions as items of a retention suite.

    Args:
        records: The questions; those without an answer are left out.
    Returns:
        One question per record, in the form in which `open_questions` asks it; `retention.ask_known` finds
        those that the model gets right, which are the ones to retain.
    """
    return [
        Question(question_prompt(record.question, SHORT_ANSWERS), record.answers, OPEN_QUESTION, record.id)
        for record in records
        if record.answers
    ]


def _f1_by_item(evaluation: Evaluation) -> dict[str, float]:
    def is_f1(sample: Sample) -> bool:
        return sample.metric == f"{OPEN_QUESTION}_squad_f1"

    return {sample.item: sample.value for sample in evaluation.samples if is_f1(sample)}
