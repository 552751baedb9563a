"""Local: whether an edit reached its own fact and nothing beside it.

What: `local` (CounterFact's scores, and answers to locality prompts), `agreement` (the same answers as the
model before), `local_inquiries`.
Why: an edit that answers its target to everything is perfect by every measure of what was learned.
How: counterfact.py compares probabilities; here locality prompts are really answered. One model alone is
judged by the answers that are known; two models by whether they say the same.

Source: Yao et al. (2023), Editing Large Language Models, section 2 (locality).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memedit.evaluation.answer_measures import means_of
from memedit.evaluation.asking import GENERATION, Inquiry, Told, ask
from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.counterfact import counterfact_inquiry, is_neighborhood
from memedit.evaluation.matching import matches, normalise
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.samples import Evaluation, Sample
from memedit.facts import Fact, Probe

__all__ = ["METRICS", "agreement", "local", "local_inquiries"]

_ANSWERS = "locality_confidence"

METRICS = (
    MetricInfo(
        "locality_accuracy",
        "local",
        "share of locality prompts answered with their own target or an alias",
        "Zhang et al. 2024, A Comprehensive Study of Knowledge Editing (KnowEdit)",
        f"{GENERATION}; exact match of target or alias at the start of the answer, locality prompts",
        higher_is_better=True,
    ),
    MetricInfo(
        _ANSWERS,
        "local",
        "mean probability of the first token of the answer to a locality prompt",
        "memedit",
        f"{GENERATION}; probability of the first generated token, locality prompts",
        higher_is_better=None,
    ),
    MetricInfo(
        "locality_agreement",
        "local",
        "share of locality prompts answered as the model before did: 1[f_T(x) = f_0(x)]",
        "Yao et al. 2023, Editing Large Language Models, section 2",
        f"{GENERATION}; the whole normalised answer equals that of the model before, locality prompts",
        higher_is_better=True,
    ),
)
"""The catalogue's entries."""

_PROTOCOLS = {info.name: info.protocol for info in METRICS}


@dataclass(frozen=True)
class _Neighbour:
    """A locality prompt."""

    item: str
    fact_id: str
    probe: Probe
    answers: tuple[str, ...]


def local(respondent: Respondent, facts: Sequence[Fact], *, seed: int = 0) -> Evaluation:
    """Measure that an edit replaced what it should, and nothing else.

    Args:
        respondent: Who is asked.
        facts: The facts: `replaces` and neighborhood probes for the CounterFact scores, locality probes for
            the rest.
        seed: Seed of the intervals.
    Returns:
        efficacy_, paraphrase_ and neighborhood_score and _accuracy with their harmonic means editing_score
        and editing_accuracy, locality_accuracy, and locality_confidence, whose samples are what `agreement`
        compares; n counts prompts, the intervals count facts. A note for what could not be measured.
    """
    return ask(respondent, local_inquiries(facts, seed=seed))


def local_inquiries(facts: Sequence[Fact], *, seed: int) -> list[Inquiry]:
    """Return what `local` asks, to be asked together with other families."""
    neighbours = [one for fact in facts for one in _neighbours(fact)]

    def judge(told: Told) -> Evaluation:
        if not neighbours:
            return Evaluation((), notes=("locality was not measured: no locality prompts",))
        samples = [sample for one in neighbours for sample in _answered(one, told)]
        return Evaluation(tuple(means_of(samples, _PROTOCOLS, seed=seed)), tuple(samples))

    questions = [(one.probe.prompt, one.answers) for one in neighbours]
    return [counterfact_inquiry(facts, seed=seed), Inquiry(questions, [], judge)]


def agreement(before: Iterable[Sample], after: Iterable[Sample], *, seed: int = 0) -> Evaluation:
    """Compare what two models answered to the same locality prompts.

    Args:
        before: The first model's samples, from `local`; those of other metrics are ignored.
        after: The second model's.
        seed: Seed of the interval.
    Returns:
        locality_agreement, by whole generated answers brought to one form, with a sample for each prompt; no
        metric and a note without locality prompts.
    Raises:
        ValueError: the two do not hold the same prompts.
    """
    first = {sample.item: sample for sample in before if sample.metric == _ANSWERS}
    second = {sample.item: sample for sample in after if sample.metric == _ANSWERS}
    if first.keys() != second.keys():
        raise ValueError(
            f"before and after must hold the same locality prompts, got {len(first)} and {len(second)} with "
            f"{len(first.keys() ^ second.keys())} that are in one only"
        )
    if not first:
        return Evaluation((), notes=("locality_agreement was not measured: no locality prompts",))
    samples = [_agreed(sample, second[item]) for item, sample in first.items()]
    return Evaluation(tuple(means_of(samples, _PROTOCOLS, seed=seed)), tuple(samples))


def _agreed(before: Sample, after: Sample) -> Sample:
    value = float(normalise(before.text) == normalise(after.text))
    return Sample(
        "locality_agreement",
        after.item,
        after.cluster,
        after.prompt,
        (before.text,),
        after.text,
        value,
        after.details,
    )


def _neighbours(fact: Fact) -> list[_Neighbour]:
    found = []
    for number, probe in enumerate(fact.probes.locality):
        answers = probe.answers
        if not answers and fact.replaces and is_neighborhood(probe, fact):
            answers = (fact.replaces,)
        found.append(_Neighbour(f"{fact.id}/locality/{number}", fact.id, probe, answers))
    return found


def _answered(one: _Neighbour, told: Told) -> list[Sample]:
    answer = told.answers[one.probe.prompt]
    values = {_ANSWERS: answer.confidence}
    if one.answers:
        values["locality_accuracy"] = float(matches(answer.text, one.answers))
    details = {"confidence": answer.confidence, "stopped": answer.stopped, "kind": one.probe.kind}
    return [
        Sample(name, one.item, one.fact_id, one.probe.prompt, one.answers, answer.text, value, details)
        for name, value in values.items()
    ]
