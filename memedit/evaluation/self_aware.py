"""SelfAware: whether a model keeps from asserting where nobody knows the answer.

What: `self_aware`: false assertions on unanswerable questions, against answerable ones.
Why: an edit that teaches a model to answer can teach it to answer everything; a question without an answer
shows that at once.
How: each question behind four examples, two answered and two met with "I don't know", in turns, so that the
model is shown both; greedy generation; what counts as an assertion is refusals.py's rule. The F1 takes
"unanswerable" for the positive class and a text that asserts nothing for its prediction.

Source: Yin et al. (2023), Do Large Language Models Know What They Don't Know?, sections 3 and 4 (their form
with examples in context; they find refusals by similarity to reference sentences, we by a list, so F1
compares within memedit).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from memedit.evaluation.asking import GENERATION, Inquiry, Told, ask
from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.matching import contains
from memedit.evaluation.question_prompts import ANSWERS_AND_REFUSALS, question_prompt
from memedit.evaluation.refusals import ASSERTION_RULE, is_assertion
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.samples import Evaluation, Sample, mean_metric
from memedit.evaluation.statistics import Metric, auroc_metric
from memedit.facts import QuestionRecord

__all__ = ["METRICS", "self_aware", "self_aware_inquiry"]

_FALSE, _TRUE, _RIGHT = "unanswerable_assertion_rate", "answerable_assertion_rate", "answerable_contains"
_F1, _AUROC = "self_aware_f1", "answerable_auroc"
_FORM = f"{GENERATION}; behind two answered and two refused examples"
_HOW = f"{_FORM}; {ASSERTION_RULE}"
_SOURCE = "Yin et al. 2023, SelfAware, section 4 (refusals by memedit's list)"
_DRAWS = 10_000


def _info(name: str, formula: str, source: str, protocol: str, *, better: bool | None) -> MetricInfo:
    return MetricInfo(name, "hallucination", formula, source, protocol, better)


METRICS = (
    _info(
        _FALSE,
        "assertions / unanswerable questions: the rate of false assertions",
        _SOURCE,
        _HOW,
        better=False,
    ),
    _info(_TRUE, "assertions / answerable questions", _SOURCE, _HOW, better=True),
    _info(
        _RIGHT,
        "share of answerable questions whose answer holds a right one anywhere, as whole words",
        "memedit",
        f"{_FORM}; a right answer anywhere in the answer, as whole words",
        better=True,
    ),
    _info(
        _F1,
        "2PR / (P + R) of 'asserts nothing' as a sign of 'unanswerable'",
        _SOURCE,
        _HOW,
        better=True,
    ),
    _info(
        _AUROC,
        "P(confidence on an answerable question > on an unanswerable one), ties 1/2",
        "memedit",
        f"{_FORM}; confidence = probability of the first generated token",
        better=True,
    ),
)
"""The catalogue's entries."""


def self_aware(respondent: Respondent, records: Sequence[QuestionRecord], *, seed: int = 0) -> Evaluation:
    """Measure what a model asserts of questions that can and cannot be answered.

    Args:
        respondent: Who is asked.
        records: Questions whose `answerable` is True or False; others are left out, with a note.
        seed: Seed of the intervals.
    Returns:
        unanswerable_assertion_rate (n counts the unanswerable questions), answerable_assertion_rate and
        answerable_contains (the answerable ones), self_aware_f1 and answerable_auroc (all).
    """
    return ask(respondent, [self_aware_inquiry(records, seed=seed)], what="what can be answered")


def self_aware_inquiry(records: Sequence[QuestionRecord], *, seed: int) -> Inquiry:
    """Return what `self_aware` asks, to be asked together with other families."""
    asked = [record for record in records if record.answerable is not None]
    num_without = len(records) - len(asked)

    def judge(told: Told) -> Evaluation:
        notes = (f"{num_without} questions do not say whether they can be answered",) if num_without else ()
        if not asked:
            return Evaluation((), notes=(*notes, "assertions were not measured: there are no questions"))
        samples = [sample for record in asked for sample in _samples(record, told)]
        return Evaluation(tuple(_metrics(samples, seed)), tuple(samples), notes)

    prompts = [(question_prompt(record.question, ANSWERS_AND_REFUSALS), record.answers) for record in asked]
    return Inquiry(prompts, (), judge)


def _samples(record: QuestionRecord, told: Told) -> list[Sample]:
    prompt = question_prompt(record.question, ANSWERS_AND_REFUSALS)
    answer = told.answers[prompt]
    details = {"confidence": answer.confidence, "stopped": answer.stopped, "answerable": record.answerable}
    values = {_FALSE: float(is_assertion(answer.text))}
    if record.answerable:
        values = {
            _TRUE: float(is_assertion(answer.text, record.answers)),
            _RIGHT: float(contains(answer.text, record.answers)),
        }
    return [
        Sample(
            name, f"{record.id}/answerable", record.id, prompt, record.answers, answer.text, value, details
        )
        for name, value in values.items()
    ]


def _metrics(samples: Sequence[Sample], seed: int) -> list[Metric]:
    by_name: dict[str, list[Sample]] = {_FALSE: [], _TRUE: [], _RIGHT: []}
    for sample in samples:
        by_name[sample.metric].append(sample)
    how = {info.name: info.protocol for info in METRICS}
    means = [mean_metric(name, kept, how[name], seed=seed) for name, kept in by_name.items()]
    unanswerable, answerable = by_name[_FALSE], by_name[_TRUE]
    return [
        *means,
        _f1_metric([one.value for one in unanswerable], [one.value for one in answerable], how[_F1], seed),
        auroc_metric(
            _AUROC,
            [(one.cluster, one.details["confidence"]) for one in answerable],
            [(one.cluster, one.details["confidence"]) for one in unanswerable],
            how[_AUROC],
            seed=seed,
        ),
    ]


def _f1_metric(unanswerable: Sequence[float], answerable: Sequence[float], how: str, seed: int) -> Metric:
    """F1 of silence as a sign of an unanswerable question; values are 1 for an assertion."""
    number = len(unanswerable) + len(answerable)
    if not unanswerable or not answerable:
        return Metric(_F1, math.nan, number, math.nan, math.nan, how)
    silent, wrongly = (len(kept) - math.fsum(kept) for kept in (unanswerable, answerable))

    def f1(hits: Any, misses: Any) -> Any:
        return 2 * hits / (hits + misses + len(unanswerable))

    # Drawn rates, where a bootstrap would have no spread for a model that never refuses.
    draws = np.random.default_rng(seed)
    hits = len(unanswerable) * draws.beta(silent + 0.5, len(unanswerable) - silent + 0.5, _DRAWS)
    misses = len(answerable) * draws.beta(wrongly + 0.5, len(answerable) - wrongly + 0.5, _DRAWS)
    value = float(f1(silent, wrongly))
    low, high = np.percentile(f1(hits, misses), (2.5, 97.5))
    how = f"{how}; interval from draws of both rates (Jeffreys)"
    return Metric(_F1, value, number, min(float(low), value), max(float(high), value), how)
