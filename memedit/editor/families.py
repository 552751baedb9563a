"""The metric families that `memedit evaluate` knows: what each asks of a state, and how two states compare.

A family is thin: the metrics are memedit.evaluation's; here they get what the store knows (which facts were
injected when, which rows were written).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memedit.editor.memory_measures import health, with_membership_of
from memedit.evaluation.assertions import (
    assertion_change,
    assertions,
    never_taught,
    taught_against_untaught,
)
from memedit.evaluation.calibration_error import calibration
from memedit.evaluation.edit_age import retained_by_age
from memedit.evaluation.fact_families import evaluate_facts
from memedit.evaluation.fluency import fluency
from memedit.evaluation.last_written import last_written_leak
from memedit.evaluation.lifelong import METRICS as LIFELONG
from memedit.evaluation.lifelong import ask_batches, lifelong
from memedit.evaluation.locality import agreement
from memedit.evaluation.open_questions import open_questions, open_retention_questions, relative_drop
from memedit.evaluation.perplexity import Perplexity, measure_perplexity, perplexity_ratio
from memedit.evaluation.retention import ask_known, retained, retention_questions, well_known_facts
from memedit.evaluation.samples import Evaluation, Sample, difference_metric, joined
from memedit.evaluation.self_aware import self_aware
from memedit.evaluation.slick import categories_of, slick, split_by_category
from memedit.evaluation.statistics import Metric, paired_bootstrap_ratio
from memedit.evaluation.truthfulqa import truthfulqa
from memedit.facts import Fact, LookAlike, QuestionRecord, look_alikes

if TYPE_CHECKING:
    from memedit.editor.evaluating import States
    from memedit.store import StoredFact

LEARNED = "learned_exact_match"
_SPLIT = (LEARNED, "paraphrase_exact_match", "question_exact_match", "context_exact_match")
_MAX_TEXTS = 50


@dataclass(frozen=True)
class Subject:
    """One state under examination.

    Attributes:
        states: the model.
        name: of the state.
        facts: facts with probes.
        questions: questions that cannot be taught.
        text: general text.
        seed: of samples, look-alikes and intervals.
    """

    states: States
    name: str
    facts: list[Fact]
    questions: list[QuestionRecord]
    text: str
    seed: int

    def of_kind(self, kind: str) -> list[QuestionRecord]:
        """The questions of a kind."""
        return [question for question in self.questions if question.kind == kind]

    def look_alikes(self) -> tuple[LookAlike, ...]:
        """Names that look like the facts' subjects and were never taught; the same for every state."""
        made = look_alikes(self.facts, num=min(200, max(60, 2 * len(self.facts))), seed=self.seed)
        return never_taught(made, [*self.facts, *(item.fact for item in self.states.store.facts())])


@dataclass(frozen=True)
class Family:
    """One metric family.

    Attributes:
        measure: what it finds in a state.
        compare: what changed from a first to a second state; None where nothing is compared.
        missing: what a state lacks for it, in a sentence, or an empty string.
    """

    measure: Callable[[Subject], Evaluation]
    compare: Callable[[Subject, Evaluation, Subject, Evaluation], Evaluation] | None
    missing: Callable[[Subject], str]


def differences(before: Evaluation, after: Evaluation, *, seed: int) -> Evaluation:
    """Every metric that is a mean over the same samples in both, as a paired difference."""
    first, second = _by_metric(before.samples), _by_metric(after.samples)
    shown = {metric.name: metric for metric in after.metrics}
    metrics: list[Metric] = []
    for name in (name for name in shown if name in first and name in second):
        was, now = first[name], second[name]
        if {one.item for one in was} == {one.item for one in now} and len({one.item for one in was}) == len(
            was
        ):
            metrics.append(difference_metric(name, was, now, shown[name].protocol, seed=seed))
    return Evaluation(tuple(metrics))


def _by_metric(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.metric, []).append(sample)
    return found


def _plain_difference(first: Subject, before: Evaluation, _: Subject, after: Evaluation) -> Evaluation:
    return differences(before, after, seed=first.seed)


def _needs_facts(subject: Subject) -> str:
    return "" if subject.facts else "facts were not measured: none were given and none are stored"


def _facts(subject: Subject) -> Evaluation:
    """What was learned of the facts; two families read it, and it is judged once."""
    found = subject.states.judged.get(subject.name)
    if found is None:
        respondent = subject.states.respondent(subject.name)
        found = evaluate_facts(respondent, subject.facts, seed=subject.seed)
        subject.states.judged[subject.name] = found
    return found


def _facts_changed(first: Subject, before: Evaluation, second: Subject, after: Evaluation) -> Evaluation:
    agreed = agreement(before.samples, after.samples, seed=first.seed)
    return joined(
        [_plain_difference(first, before, second, after), Evaluation(agreed.metrics, agreed.samples)]
    )


def _questions(subject: Subject) -> Evaluation:
    respondent = subject.states.respondent(subject.name)
    asks = {"open": open_questions, "multiple_choice": truthfulqa, "answerable": self_aware}
    return joined(
        measure(respondent, subject.of_kind(kind), seed=subject.seed)
        for kind, measure in asks.items()
        if subject.of_kind(kind)
    )


def _questions_changed(first: Subject, before: Evaluation, second: Subject, after: Evaluation) -> Evaluation:
    parts = [_plain_difference(first, before, second, after)]
    if first.of_kind("open"):
        parts.append(Evaluation((relative_drop(before, after, seed=first.seed),)))
    return joined(parts)


def _retained(subject: Subject) -> Evaluation:
    """What a state still knows of what the base model knew (given questions too) and of what was injected."""
    states = subject.states
    replaced = [item.fact for item in states.store.facts()]
    suite = retention_questions(well_known_facts(), replaced_by=replaced)
    suite += open_retention_questions(subject.of_kind("open"))
    known = ask_known(states.respondent("base"), suite)
    respondent = states.respondent(subject.name)
    parts = [retained(respondent, known)]
    worn = states.edits(subject.name)
    stored = states.facts(subject.name)
    if stored:
        batches = [batch for _, batch in _batches(worn, stored)]
        final = ask_batches(respondent, batches)
        learned = {f"{one.fact.id}/prompt" for one in stored if one.outcome.get("status") == "learned"}
        newest = [answer for fact in batches[-1] for answer in fact.answers]
        parts.append(retained_by_age(final, learned, seed=subject.seed))
        parts.append(last_written_leak(final, newest, seed=subject.seed))
    return joined(parts)


def _batches(worn: Sequence[str], stored: Sequence[StoredFact]) -> list[tuple[str, list[Fact]]]:
    """The edits that taught something, with their facts; one that only took some out is no update."""
    found = [(edit, [item.fact for item in stored if item.edit_id == edit]) for edit in worn]
    return [(edit, facts) for edit, facts in found if facts]


def _lifelong(subject: Subject) -> Evaluation:
    """What every update left of what it and the earlier ones injected: all states on the way are asked."""
    states = subject.states
    worn = states.edits(subject.name)
    told = _batches(worn, states.facts(subject.name))
    batches = [batch for _, batch in told]
    rounds = [
        ask_batches(states.respondent(edit), batches[:number])
        for number, (edit, _) in enumerate(told, start=1)
    ]
    found = lifelong(rounds, seed=subject.seed)
    # Ages and leakage rest on the last round alone, and belong to the family `retained`.
    names = {entry.name for entry in LIFELONG}
    samples = (
        replace(sample, item=f"{sample.item}/after-{update}")
        for update, told in enumerate(rounds, start=1)
        for sample in told
    )
    return Evaluation(
        tuple(metric for metric in found.metrics if metric.name in names), tuple(samples), found.notes
    )


def _hallucination(subject: Subject) -> Evaluation:
    respondent = subject.states.respondent(subject.name)
    asserted = assertions(respondent, subject.look_alikes(), seed=subject.seed)
    learned = [one for one in _facts(subject).samples if one.metric == LEARNED]
    untaught = [one for one in asserted.samples if one.metric == "look_alike_assertion_rate"]
    told_apart = taught_against_untaught(
        with_membership_of(subject, learned), with_membership_of(subject, untaught), seed=subject.seed
    )
    calibrated = calibration(learned, seed=subject.seed)
    return joined(
        [
            asserted,
            Evaluation(told_apart.metrics, notes=told_apart.notes),
            Evaluation(calibrated.metrics, notes=calibrated.notes),
        ]
    )


def _hallucination_changed(first: Subject, before: Evaluation, _: Subject, after: Evaluation) -> Evaluation:
    return assertion_change(before, after, first.look_alikes(), first.facts, seed=first.seed)


def _slick(subject: Subject) -> Evaluation:
    """How well the model without edits knew the facts, and what this state answers in each category."""
    known = slick(subject.states.respondent("base"), subject.facts, seed=subject.seed)
    split = split_by_category(_facts(subject), categories_of(known), seed=subject.seed)
    parts = [
        replace(metric, name=f"{metric.name}[{category}]")
        for category, found in split.items()
        for metric in found.metrics
        if metric.name in _SPLIT
    ]
    return Evaluation((*known.metrics, *parts), known.samples, known.notes)


def _fluency(subject: Subject) -> Evaluation:
    prompts = {fact.id: fact.prompt for fact in subject.facts[:_MAX_TEXTS]}
    return fluency(subject.states.respondent(subject.name), prompts, seed=subject.seed)


def _perplexity(subject: Subject) -> Evaluation:
    found = _measured_perplexity(subject)
    zeros = [0.0] * len(found.nlls)
    value, low, high = paired_bootstrap_ratio(zeros, found.nlls, found.num_tokens, subject.seed)
    protocol = (
        f"exp of the mean -log p over {sum(found.num_tokens)} tokens of general text, bootstrap over passages"
    )
    return Evaluation((Metric("perplexity", value, len(found.nlls), low, high, protocol),))


def _measured_perplexity(subject: Subject) -> Perplexity:
    opened = subject.states.opened

    def measure() -> dict[str, object]:
        found = measure_perplexity(
            opened.model, opened.tokenizer, subject.text, progress=subject.states.progress
        )
        return {"value": found.value, "nlls": list(found.nlls), "num_tokens": list(found.num_tokens)}

    kept = subject.states.remembered(subject.name, f"perplexity/{subject.text}", measure)
    return Perplexity(kept["value"], tuple(kept["nlls"]), tuple(kept["num_tokens"]))


def _perplexity_changed(first: Subject, _: Evaluation, second: Subject, __: Evaluation) -> Evaluation:
    ratio = perplexity_ratio(_measured_perplexity(first), _measured_perplexity(second), seed=first.seed)
    return Evaluation((ratio,))


def _needs_questions(subject: Subject) -> str:
    return "" if subject.questions else "questions were not measured: the data hold none"


def _needs_edits(what: str) -> Callable[[Subject], str]:
    def missing(subject: Subject) -> str:
        worn = subject.states.edits(subject.name)
        return "" if worn else f"{what} was not measured: {subject.name} wears no edit"

    return missing


def _needs_taught_facts(subject: Subject) -> str:
    if subject.states.facts(subject.name):
        return ""
    which = " that teaches" if subject.states.edits(subject.name) else ""
    return f"the retention matrix was not measured: {subject.name} wears no edit{which}"


def _needs_nothing(_: Subject) -> str:
    return ""


FAMILIES: dict[str, Family] = {
    "facts": Family(_facts, _facts_changed, _needs_facts),
    "questions": Family(_questions, _questions_changed, _needs_questions),
    "retained": Family(_retained, None, _needs_nothing),
    "hallucination": Family(_hallucination, _hallucination_changed, _needs_facts),
    "lifelong": Family(_lifelong, None, _needs_taught_facts),
    "slick": Family(_slick, None, _needs_facts),
    "fluency": Family(_fluency, _plain_difference, _needs_facts),
    "perplexity": Family(_perplexity, _perplexity_changed, _needs_nothing),
    "health": Family(health, None, _needs_edits("health")),
}
"""Metric families by name, in the order in which they are shown."""

DEFAULT_FAMILIES = ("facts", "questions", "retained", "hallucination", "perplexity", "health")
"""The families that are measured when none are named: all but the slow ones."""
