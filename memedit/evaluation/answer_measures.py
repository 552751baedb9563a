"""What is measured of an answer: seven figures, the same for every kind of question about a fact.

What: `Asked` (one question about a fact), `inquiry_of` (what to ask for a group of them), `metric_infos`.
Why: learned, learned in another wording, behind other text, and carried to what follows from it are one
measurement on other prompts; only then can they be compared.
How: from the generated answer exact match (`matching.matches`), containment, SQuAD's exact match and F1, each
the best over target and aliases; from the given target its log-probability and the share of its tokens that
are the model's first choice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from memedit.evaluation.asking import GENERATION, TEACHER_FORCED, Inquiry, Told
from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.matching import contains, matches
from memedit.evaluation.question_answering import squad_exact_match, squad_f1
from memedit.evaluation.samples import Evaluation, Sample, mean_metric
from memedit.evaluation.statistics import Metric
from memedit.facts import join

if TYPE_CHECKING:
    from memedit.evaluation.scoring import Scored

__all__ = [
    "GENERATED",
    "GIVEN",
    "SQUAD",
    "Asked",
    "Measure",
    "continuation",
    "generated_samples",
    "group_metrics",
    "inquiry_of",
    "means_of",
    "metric_infos",
]

T = TypeVar("T")

SQUAD = "Rajpurkar et al. 2016, SQuAD, section 6.1"


@dataclass(frozen=True)
class Asked:
    """One question about a fact.

    Args:
        item: Stable name of the question.
        fact_id: The fact that it is about.
        prompt: What is asked, without a trailing space.
        answers: What counts as right, the target first.
        kind: Which kind of question it is, or None.
    """

    item: str
    fact_id: str
    prompt: str
    answers: tuple[str, ...]
    kind: str | None = None


@dataclass(frozen=True)
class Measure(Generic[T]):
    """One figure of an answer.

    Args:
        name: The end of the metric's name.
        formula: What is averaged.
        source: Where it is defined.
        protocol: How it is measured.
        value: The figure of what was heard (a generated text, or the score of the target) and the expected
            answers.
        bounded: Whether the figure lies in [0, 1].
    """

    name: str
    formula: str
    source: str
    protocol: str
    value: Callable[[T, Sequence[str]], float]
    bounded: bool = True


GENERATED: tuple[Measure[str], ...] = (
    Measure(
        "exact_match",
        "share of answers that start with the target or an alias",
        "memedit (real generation: Yang et al. 2025, The Mirage of Model Editing)",
        f"{GENERATION}; exact match of target or alias at the start of the answer",
        lambda text, answers: float(matches(text, answers)),
    ),
    Measure(
        "contains",
        "share of answers that hold the target or an alias anywhere, as whole words",
        "memedit (containment as in Mallen et al. 2023, When Not to Trust Language Models)",
        f"{GENERATION}; target or alias anywhere in the answer, as whole words",
        lambda text, answers: float(contains(text, answers)),
    ),
    Measure(
        "squad_em",
        "share of answers that equal the target or an alias in SQuAD's normal form",
        SQUAD,
        f"{GENERATION}; the whole answer equals target or alias, SQuAD normalisation",
        squad_exact_match,
    ),
    Measure(
        "squad_f1",
        "mean over answers of the largest F1 of words with the target or an alias, SQuAD's normal form",
        SQUAD,
        f"{GENERATION}; F1 of words, SQuAD normalisation, maximum over target and aliases",
        squad_f1,
    ),
)
"""Figures of a generated answer."""

GIVEN: tuple[Measure[Scored], ...] = (
    Measure(
        "log_prob",
        "mean over questions of the target's log-probability in nats, the sum over its tokens",
        "memedit",
        f"{TEACHER_FORCED}; log-probability in nats, sum over the target's tokens",
        lambda scored, _: scored.log_prob,
        bounded=False,
    ),
    Measure(
        "log_prob_per_token",
        "mean over questions of the target's log-probability in nats / its number of tokens",
        "memedit",
        f"{TEACHER_FORCED}; log-probability in nats, mean over the target's tokens",
        lambda scored, _: scored.log_prob / scored.num_tokens,
        bounded=False,
    ),
    Measure(
        "token_accuracy",
        "mean over questions of the share of the target's tokens that are the model's first choice",
        "as EasyEdit computes it (Yao et al. 2023, Editing Large Language Models)",
        f"{TEACHER_FORCED}; share of its tokens that are the model's first choice",
        lambda scored, _: scored.num_greedy / scored.num_tokens,
    ),
)
"""Figures of the given target."""


def continuation(prompt: str, target: str) -> str:
    """Return what follows the prompt when the target is its answer, the leading space included."""
    return join(prompt, target)[len(prompt) :]


def inquiry_of(group: str, what: str, questions: Sequence[Asked], *, seed: int) -> Inquiry:
    """Return what to ask for one group of questions.

    Args:
        group: The beginning of the metrics' names, such as "paraphrase".
        what: What is asked, for the protocol and the note when there is nothing of it.
        questions: The questions; their items are distinct.
        seed: Seed of the intervals.
    Returns:
        An inquiry whose evaluation has the seven metrics, or a note where there are no questions.
    """

    def judge(told: Told) -> Evaluation:
        if not questions:
            return Evaluation((), notes=(f"{group} was not measured: no {what}",))
        samples = [
            sample
            for asked in questions
            for sample in (*generated_samples(group, asked, told), *_given_samples(group, asked, told))
        ]
        return group_metrics(group, what, samples, (*GENERATED, *GIVEN), seed=seed)

    pairs = [(asked.prompt, continuation(asked.prompt, asked.answers[0])) for asked in questions]
    return Inquiry([(asked.prompt, asked.answers) for asked in questions], pairs, judge)


def group_metrics(
    group: str, what: str, samples: Sequence[Sample], measures: Sequence[Measure[Any]], *, seed: int
) -> Evaluation:
    """Return the mean of each measure over the samples that name it.

    Args:
        group: The beginning of the metrics' names.
        what: What was asked, for the protocol.
        samples: The samples of all measures.
        measures: What was measured.
        seed: Seed of the intervals.
    """
    protocols = {f"{group}_{measure.name}": f"{measure.protocol}, {what}" for measure in measures}
    unbounded = {f"{group}_{measure.name}" for measure in measures if not measure.bounded}
    return Evaluation(tuple(means_of(samples, protocols, seed=seed, unbounded=unbounded)), tuple(samples))


def means_of(
    samples: Iterable[Sample], protocols: Mapping[str, str], *, seed: int, unbounded: Collection[str] = ()
) -> list[Metric]:
    """Return the mean of every metric that samples name.

    Args:
        samples: The samples.
        protocols: How each metric was measured, by name.
        seed: Seed of the intervals.
        unbounded: Those whose values may lie outside [0, 1].
    Returns:
        The metrics in the order of `protocols`, without those that no sample names.
    """
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.metric, []).append(sample)
    return [
        mean_metric(name, by_name[name], protocol, seed=seed, bounded=name not in unbounded)
        for name, protocol in protocols.items()
        if name in by_name
    ]


def generated_samples(group: str, asked: Asked, told: Told) -> list[Sample]:
    """Return the samples of one question's generated answer, one per measure of `GENERATED`."""
    answer = told.answers[asked.prompt]
    details = {"confidence": answer.confidence, "stopped": answer.stopped}
    values = {measure.name: measure.value(answer.text, asked.answers) for measure in GENERATED}
    return _samples(group, asked, answer.text, values, details)


def _given_samples(group: str, asked: Asked, told: Told) -> list[Sample]:
    """The samples of one question's given target, one per measure of `GIVEN`."""
    scored = told.scores[asked.prompt, continuation(asked.prompt, asked.answers[0])]
    text = (
        f"{asked.answers[0]!r} given: {scored.log_prob:.3f} nats over {scored.num_tokens} tokens, "
        f"{scored.num_greedy} of them first choice"
    )
    values = {measure.name: measure.value(scored, asked.answers) for measure in GIVEN}
    return _samples(group, asked, text, values, {})


def _samples(
    group: str, asked: Asked, text: str, values: Mapping[str, float], details: Mapping[str, Any]
) -> list[Sample]:
    more = details if asked.kind is None else {**details, "kind": asked.kind}
    return [
        Sample(f"{group}_{name}", asked.item, asked.fact_id, asked.prompt, asked.answers, text, value, more)
        for name, value in values.items()
    ]


def metric_infos(
    group: str, family: str, what: str, measures: Sequence[Measure[Any]] = (*GENERATED, *GIVEN)
) -> tuple[MetricInfo, ...]:
    """Return the catalogue's entries of one group of questions.

    Args:
        group: The beginning of the metrics' names.
        family: The family that measures them.
        what: What is asked.
        measures: What is measured.
    """
    return tuple(
        MetricInfo(
            f"{group}_{measure.name}",
            family,
            measure.formula,
            measure.source,
            f"{measure.protocol}, {what}",
            higher_is_better=True,
        )
        for measure in measures
    )
