"""CounterFact's scores: is the new answer the more probable one, and on neighborhood prompts the old one?

What: `counterfact_inquiry` (ES, PS, NS, their accuracy variants, and the harmonic means S), `COMBINED`.
Why: they are what papers on knowledge editing report, and they move long before a generated answer does.
How: the probability of the new answer against that of the one that held before (`Fact.replaces`), each the
geometric mean over its tokens, as in the numbers that ROME and its successors publish: the product over all
tokens would favour whichever answer is shorter. A tie is no success.

Source: Meng et al. (2022), Locating and Editing Factual Associations in GPT, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memedit.evaluation.answer_measures import continuation, means_of
from memedit.evaluation.asking import TEACHER_FORCED, Inquiry, Told
from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.combined_means import combined_metric, harmonic_mean
from memedit.evaluation.matching import normalise
from memedit.evaluation.recall import HELD_OUT_WORDING, questions_of
from memedit.evaluation.samples import Evaluation, Sample
from memedit.evaluation.statistics import Metric
from memedit.facts import Fact, Probe

if TYPE_CHECKING:
    from memedit.evaluation.scoring import Scored

__all__ = ["COMBINED", "METRICS", "counterfact_inquiry", "is_neighborhood"]

_ROME = "Meng et al. 2022, Locating and Editing Factual Associations in GPT, section 3.3"
_SCORE = f"{TEACHER_FORCED}; probability is the geometric mean over the answer's tokens"
_ACCURACY = "teacher forced; right when every token of the answer is the model's first choice"
_GROUPS = {
    "efficacy": "prompt of the fact",
    "paraphrase": "held-out wordings",
    "neighborhood": "neighborhood prompts",
}
COMBINED = {f"editing_{end}": tuple(f"{group}_{end}" for group in _GROUPS) for end in ("score", "accuracy")}
"""The harmonic means, each with the metrics that it combines."""


def _group_infos(group: str, what: str) -> tuple[MetricInfo, MetricInfo]:
    better = "true) > P(new" if group == "neighborhood" else "new) > P(true"
    answer = "true" if group == "neighborhood" else "new"
    return (
        MetricInfo(
            f"{group}_score",
            "local",
            f"share of prompts with P({better})",
            _ROME,
            f"{_SCORE}, {what}",
            higher_is_better=True,
        ),
        MetricInfo(
            f"{group}_accuracy",
            "local",
            f"share of prompts where the {answer} answer is the model's own, token by token",
            _ROME,
            f"{_ACCURACY}, {what}",
            higher_is_better=True,
        ),
    )


def _combined_info(name: str, parts: Sequence[str]) -> MetricInfo:
    formula = f"3 / (1/{parts[0]} + 1/{parts[1]} + 1/{parts[2]}), 0 when one is 0"
    protocol = f"{_SCORE if name.endswith('score') else _ACCURACY}, harmonic mean; n counts facts"
    return MetricInfo(name, "local", formula, _ROME, protocol, higher_is_better=True)


METRICS = (
    *(info for group, what in _GROUPS.items() for info in _group_infos(group, what)),
    *(_combined_info(name, parts) for name, parts in COMBINED.items()),
)
"""The catalogue's entries."""

_PROTOCOLS = {info.name: info.protocol for info in METRICS}


@dataclass(frozen=True)
class _Comparison:
    """A prompt that is scored with the new answer and with the one that held before."""

    group: str
    item: str
    fact_id: str
    prompt: str
    new: str
    true: str

    @property
    def pairs(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """What is scored: the new answer, then the true one."""
        new, true = continuation(self.prompt, self.new), continuation(self.prompt, self.true)
        return (self.prompt, new), (self.prompt, true)

    @property
    def expected(self) -> str:
        """The answer that ought to be the more probable one."""
        return self.true if self.group == "neighborhood" else self.new


def counterfact_inquiry(facts: Sequence[Fact], *, seed: int) -> Inquiry:
    """Return what CounterFact's scores ask.

    Args:
        facts: The facts; those with `replaces` count, with their held-out wordings and neighborhood probes.
        seed: Seed of the intervals.
    Returns:
        An inquiry whose evaluation has efficacy_, paraphrase_ and neighborhood_score and _accuracy, their
        harmonic means editing_score and editing_accuracy, and notes on what could not be measured.
    """
    replacing = [fact for fact in facts if fact.replaces]
    asked = [one for fact in replacing for one in _comparisons(fact)]
    comparisons = [one for one in asked if normalise(one.new) != normalise(one.true)]
    notes = _notes(len(facts) - len(replacing), len(asked) - len(comparisons), comparisons)

    def judge(told: Told) -> Evaluation:
        samples = [sample for one in comparisons for sample in _compared(one, told)]
        means = means_of(samples, _PROTOCOLS, seed=seed)
        return Evaluation((*means, *_combined(samples, seed)), tuple(samples), notes)

    return Inquiry([], [pair for one in comparisons for pair in one.pairs], judge)


def is_neighborhood(probe: Probe, fact: Fact) -> bool:
    """Say whether a locality probe asks for what the fact replaces, of another subject.

    Args:
        probe: The probe.
        fact: Its fact.
    Returns:
        True for the kind "neighborhood", and without a kind, when its target is what the fact replaces.
    """
    if probe.kind is not None:
        return probe.kind == "neighborhood"
    return probe.target is not None and probe.target == fact.replaces


def _comparisons(fact: Fact) -> list[_Comparison]:
    true = str(fact.replaces)
    wordings = [one.prompt for one in questions_of(fact) if one.group == HELD_OUT_WORDING]
    asked = [("efficacy", fact.prompt, true), *(("paraphrase", prompt, true) for prompt in wordings)]
    asked += [
        ("neighborhood", probe.prompt, probe.target or true)
        for probe in fact.probes.locality
        if is_neighborhood(probe, fact)
    ]
    return [
        _Comparison(group, f"{fact.id}/{group}/{number}", fact.id, prompt, fact.target, known)
        for number, (group, prompt, known) in enumerate(asked)
    ]


def _compared(one: _Comparison, told: Told) -> list[Sample]:
    new, true = (told.scores[pair] for pair in one.pairs)
    first, second = (true, new) if one.group == "neighborhood" else (new, true)
    values = {
        "score": float(_per_token(first) > _per_token(second)),
        "accuracy": float(first.num_greedy == first.num_tokens),
    }
    text = f"{one.new!r} {_per_token(new):.3f} nats a token, {one.true!r} {_per_token(true):.3f}"
    details = {"log_prob_new": new.log_prob, "log_prob_true": true.log_prob}
    return [
        Sample(f"{one.group}_{end}", one.item, one.fact_id, one.prompt, (one.expected,), text, value, details)
        for end, value in values.items()
    ]


def _per_token(scored: Scored) -> float:
    return scored.log_prob / scored.num_tokens


def _combined(samples: Sequence[Sample], seed: int) -> list[Metric]:
    metrics = []
    for name, parts in COMBINED.items():
        groups = [[sample for sample in samples if sample.metric == part] for part in parts]
        if all(groups):
            metrics.append(combined_metric(name, groups, harmonic_mean, _PROTOCOLS[name], seed=seed))
    return metrics


def _notes(num_without: int, num_equal: int, comparisons: Sequence[_Comparison]) -> tuple[str, ...]:
    notes = []
    if num_without:
        notes.append(
            f"left out of the CounterFact scores, for they do not say what they replace: {num_without} facts"
        )
    if num_equal:
        notes.append(
            f"left out of the CounterFact scores, for the old answer is the new one: {num_equal} prompts"
        )
    missing = [what for group, what in _GROUPS.items() if all(one.group != group for one in comparisons)]
    if comparisons and missing:
        notes.append(f"editing_score was not measured: no {' and no '.join(missing)}")
    return tuple(notes)
