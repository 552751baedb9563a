"""Assertions about what was never taught: how often and how surely, and whether they can be told apart.

What: `assertions` (one model), `assertion_change` (edited against base), `taught_against_untaught`,
`never_taught`, `with_membership`.
Why: look-alikes of the taught subjects do not exist, so whatever a model asserts of them is made up; an edit
may make it assert more, more surely, or with what was taught to others.
How: look-alikes come from memedit.facts.look_alikes; what is an assertion says refusals.py; what leaked says
look_alikes.py. A score that is to tell taught from untaught subjects (the confidence of the answer, or the
routing mass on the slots of a taught subject) is judged by its AUROC.

Source: rate and confidence of assertions: memedit; AUROC as the probability that a taught item scores above
an untaught one: Hanley and McNeil (1982), The Meaning and Use of the Area under a ROC Curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from memedit.evaluation.asking import GENERATION, Inquiry, Told, ask
from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.look_alikes import measure_leak
from memedit.evaluation.refusals import ASSERTION_RULE, is_assertion
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.samples import Evaluation, Sample, difference_metric, mean_metric
from memedit.evaluation.statistics import auroc_metric
from memedit.facts import Fact, LookAlike, wording_key

__all__ = [
    "METRICS",
    "assertion_change",
    "assertions",
    "assertions_inquiry",
    "never_taught",
    "taught_against_untaught",
    "with_membership",
]

_RATE, _SURE = "look_alike_assertion_rate", "look_alike_assertion_confidence"
_AUROC = {"confidence": "taught_auroc_confidence", "membership": "taught_auroc_membership"}
_WHAT = "never-taught look-alikes of the injected subjects"
_HOW = {
    _RATE: f"{GENERATION}; {ASSERTION_RULE}; {_WHAT}",
    _SURE: f"{GENERATION}; probability of the first generated token, of assertions alone; {_WHAT}",
    _AUROC[
        "confidence"
    ]: f"{GENERATION}; probability of the first generated token; taught subjects against {_WHAT}",
    _AUROC[
        "membership"
    ]: f"largest routing mass on the slots of one taught subject; taught subjects against {_WHAT}",
}
_CHANGE = "_change"


def _info(name: str, formula: str, protocol: str, *, better: bool) -> MetricInfo:
    return MetricInfo(name, "hallucination", formula, "memedit", protocol, better)


METRICS = (
    _info(_RATE, "assertions / look-alikes", _HOW[_RATE], better=False),
    _info(_SURE, "mean confidence of the assertions about look-alikes", _HOW[_SURE], better=False),
    _info(
        _RATE + _CHANGE,
        "assertion rate of the edited model - that of the base model, same look-alikes",
        _HOW[_RATE],
        better=False,
    ),
    _info(
        _SURE + _CHANGE,
        "mean difference of confidence, edited - base, over look-alikes of which both assert something",
        _HOW[_SURE],
        better=False,
    ),
    _info(
        "leak",
        "look-alikes answered with an injected target by the edited model and not by the base / look-alikes",
        f"{GENERATION}; an injected target at the start of the answer; {_WHAT}",
        better=False,
    ),
    _info(
        "look_alikes_changed",
        "look-alikes whose normalised answer is not that of the base model / look-alikes",
        f"{GENERATION}; {_WHAT}",
        better=False,
    ),
    *(
        _info(
            name,
            f"P({score} of a taught subject > {score} of a never-taught look-alike), ties 1/2",
            _HOW[name],
            better=True,
        )
        for score, name in _AUROC.items()
    ),
)
"""The catalogue's entries."""


def never_taught(look_alikes: Iterable[LookAlike], taught: Iterable[Fact]) -> tuple[LookAlike, ...]:
    """Return the look-alikes that are really absent from what was taught.

    Args:
        look_alikes: Made for some facts; earlier edits may have taught a subject of the same name.
        taught: Everything that was ever taught, or is known to be true.
    Returns:
        Those whose subject is no subject, target or alias of `taught`, and whose prompt is no wording of it.
    """
    known: set[str] = set()
    for fact in taught:
        known.update(map(wording_key, (fact.subject, *fact.answers, *fact.given_wordings)))
    return tuple(
        one for one in look_alikes if not known & {wording_key(one.subject), wording_key(one.prompt)}
    )


def assertions(respondent: Respondent, look_alikes: Sequence[LookAlike], *, seed: int = 0) -> Evaluation:
    """Measure how often and how surely a model asserts something of entities that do not exist.

    Args:
        respondent: Who is asked.
        look_alikes: The entities, with distinct subjects, from `never_taught`.
        seed: Seed of the intervals.
    Returns:
        look_alike_assertion_rate (n counts look-alikes) and look_alike_assertion_confidence (n counts
        assertions; NaN without any).
    """
    return ask(respondent, [assertions_inquiry(look_alikes, seed=seed)], what="look-alikes")


def assertions_inquiry(look_alikes: Sequence[LookAlike], *, seed: int) -> Inquiry:
    """Return what `assertions` asks, to be asked together with other families."""

    def judge(told: Told) -> Evaluation:
        if not look_alikes:
            return Evaluation((), notes=("assertions were not measured: there are no look-alikes",))
        rated = [_sample(one, told) for one in look_alikes]
        sure = [_sureness(sample) for sample in rated if sample.value == 1]
        metrics = (
            mean_metric(_RATE, rated, _HOW[_RATE], seed=seed),
            mean_metric(_SURE, sure, _HOW[_SURE], seed=seed),
        )
        return Evaluation(metrics, (*rated, *sure))

    return Inquiry([(one.prompt, ()) for one in look_alikes], (), judge)


def assertion_change(
    before: Evaluation,
    after: Evaluation,
    look_alikes: Sequence[LookAlike],
    injected: Iterable[Fact],
    *,
    seed: int = 0,
) -> Evaluation:
    """Measure what an edit changed in what a model asserts of look-alikes.

    Args:
        before: What `assertions` found of the model before.
        after: The same of the model after it, for the same look-alikes.
        look_alikes: Those that both were asked about.
        injected: The injected facts, whose answers may have leaked.
        seed: Seed of the intervals.
    Returns:
        look_alike_assertion_rate_change, look_alike_assertion_confidence_change (over look-alikes of which
        both models assert something), leak and look_alikes_changed.
    Raises:
        ValueError: the two do not hold these look-alikes.
    """
    was, now = _named(before, _RATE), _named(after, _RATE)
    rate = difference_metric(_RATE + _CHANGE, was, now, _HOW[_RATE], seed=seed)
    both = {sample.item for sample in _named(before, _SURE)} & {
        sample.item for sample in _named(after, _SURE)
    }
    sure = difference_metric(
        _SURE + _CHANGE,
        [sample for sample in _named(before, _SURE) if sample.item in both],
        [sample for sample in _named(after, _SURE) if sample.item in both],
        _HOW[_SURE],
        seed=seed,
    )
    texts_before, texts_after = ({one.item: one.text for one in samples} for samples in (was, now))
    missing = [one.subject for one in look_alikes if _item(one) not in texts_before]
    if missing:
        raise ValueError(
            f"before and after must hold every look-alike, {len(missing)} of {len(look_alikes)} are missing, "
            f"the first is {missing[0]!r}"
        )
    said_before = [texts_before[_item(one)] for one in look_alikes]
    said_after = [texts_after[_item(one)] for one in look_alikes]
    leak = measure_leak(look_alikes, said_before, said_after, injected)
    by_subject = {one.subject: one.fact_ids for one in leak.leaked}
    samples = tuple(
        Sample(
            "leak",
            _item(one),
            one.fact_id,
            one.prompt,
            (),
            text,
            float(one.subject in by_subject),
            {"before": earlier, "leaked_from": list(by_subject.get(one.subject, ()))},
        )
        for one, earlier, text in zip(look_alikes, said_before, said_after, strict=True)
    )
    return Evaluation((rate, sure, leak.leak, leak.changed), samples)


def taught_against_untaught(
    taught: Sequence[Sample], untaught: Sequence[Sample], *, seed: int = 0
) -> Evaluation:
    """Measure how well a model's signals tell what it was taught from what it was not.

    Args:
        taught: One sample per prompt about a taught subject, such as those of learned_exact_match.
        untaught: Those of look_alike_assertion_rate, or of any other prompts about what was never taught.
        seed: Seed of the intervals.
    Returns:
        taught_auroc_confidence, and taught_auroc_membership where the samples have a "membership" in their
        details (`with_membership`); a note says what is missing.
    """
    metrics, notes = [], []
    for score, name in _AUROC.items():
        positives, negatives = _scored(taught, score), _scored(untaught, score)
        if positives and negatives:
            metrics.append(auroc_metric(name, positives, negatives, _HOW[name], seed=seed))
        else:
            notes.append(f"{name} was not measured: no {score} on one side")
    return Evaluation(tuple(metrics), (*taught, *untaught), tuple(notes))


def with_membership(samples: Sequence[Sample], masses: Sequence[float]) -> tuple[Sample, ...]:
    """Return samples that carry their slot membership.

    Args:
        samples: Samples of prompts.
        masses: For each the largest routing mass, over its tokens, on the slots of one taught subject, in
            [0, 1]; whoever runs the model knows it.
    Raises:
        ValueError: the two differ in length.
    """
    if len(samples) != len(masses):
        raise ValueError(f"masses must have one entry per sample, got {len(masses)} for {len(samples)}")
    return tuple(
        replace(sample, details={**sample.details, "membership": float(mass)})
        for sample, mass in zip(samples, masses, strict=True)
    )


def _item(one: LookAlike) -> str:
    return f"{one.fact_id}/look_alike/{one.subject}"


def _sample(one: LookAlike, told: Told) -> Sample:
    answer = told.answers[one.prompt]
    details = {"confidence": answer.confidence, "stopped": answer.stopped, "subject": one.subject}
    value = float(is_assertion(answer.text))
    return Sample(_RATE, _item(one), one.fact_id, one.prompt, (), answer.text, value, details)


def _sureness(sample: Sample) -> Sample:
    return replace(sample, metric=_SURE, value=float(sample.details["confidence"]))


def _named(evaluation: Evaluation, name: str) -> list[Sample]:
    return [sample for sample in evaluation.samples if sample.metric == name]


def _scored(samples: Sequence[Sample], score: str) -> list[tuple[str, float]]:
    """The cluster and the score of each sample that has one."""
    return [(one.cluster, float(one.details[score])) for one in samples if one.details.get(score) is not None]
