"""What is measured of a method, and what the model without any edit says to the same.

What: `Task` (what is asked), `Before` (the model without edits), `measure_before`, `measure_after`,
`quick_look`.
Why: every method is asked exactly the same, in the same batches, and compared with the same answers.
How: real generation through a respondent (memedit.evaluation). What is kept of an item is its cluster (its
fact) and its value, so that the summary can put seeds together and still resample facts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from memedit.editing.freed_memory import release_freed_memory
from memedit.evaluation import (
    Answered,
    Perplexity,
    Question,
    ask_known,
    ask_questions,
    matches,
    measure_leak,
    measure_perplexity,
    questions_of,
    retention_questions,
    well_known_facts,
)
from memedit.evaluation.asking import Inquiry, Told, ask
from memedit.evaluation.combined_means import harmonic_mean
from memedit.evaluation.distractors import behind_distractor
from memedit.evaluation.locality import agreement, local_inquiries
from memedit.evaluation.matching import normalise
from memedit.evaluation.recall import HELD_OUT_WORDING, QUESTION, TRAINED_WORDING
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.samples import Evaluation, Sample
from memedit.facts import Fact, LookAlike, look_alikes
from memedit.modeling.opening import OpenedModel
from memedit.progress import Progress

Values = dict[str, list[tuple[str, float]]]
"""Metric -> (cluster, value) of every item."""
Purpose = Literal["reported", "development"]

CONTEXT = "behind_a_sentence"
RETAINED, LEAK = "retained", "leak"
_TUNING_SHARE = 4
_ROOM = 4


@dataclass(frozen=True)
class Task:
    """What is asked.

    Attributes:
        facts: what is taught, none of it known before.
        purpose: the retention suite's items are split by hash: a quarter for development, the rest reported.
        text: general text.
        seed: of look-alikes and distracting sentences; the same for every method and seed.
    """

    facts: tuple[Fact, ...]
    purpose: Purpose
    text: str
    seed: int = 0

    def look_alikes(self) -> tuple[LookAlike, ...]:
        """Names that look like the facts' subjects and were never taught."""
        return tuple(look_alikes(self.facts, num=min(200, max(60, 2 * len(self.facts))), seed=self.seed))

    def retention(self) -> list[Question]:
        """Well-known facts of the task's share."""
        asked = retention_questions(well_known_facts(), replaced_by=self.facts)
        tuning = self.purpose == "development"
        return [one for one in asked if (_hash(one.prompt) % _TUNING_SHARE == 0) == tuning]

    def max_new_tokens(self, respondent: Respondent) -> int:
        """Token budget of an answer that may state a taught target."""
        answers = list(dict.fromkeys(f" {answer}" for fact in self.facts for answer in fact.answers))
        return max(16, max(respondent.count_tokens(answers), default=0) + _ROOM)


@dataclass(frozen=True)
class Before:
    """The model without edits.

    Attributes:
        values: what it answers about the facts.
        known: right answers of the retention suite.
        look_alikes: its answers to the look-alikes.
        locality: what `memedit.evaluation.locality` found, for the comparison of answers.
        perplexity: on general text; None where it is not wanted.
    """

    values: Values
    known: tuple[Answered, ...]
    look_alikes: tuple[str, ...]
    locality: tuple[Sample, ...]
    perplexity: Perplexity | None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "values": self.values,
            "known": [asdict(item) for item in self.known],
            "look_alikes": list(self.look_alikes),
            "locality": [sample.to_json() for sample in self.locality],
            "perplexity": None if self.perplexity is None else asdict(self.perplexity),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Before:
        """Read back what `to_json` returned."""
        known = [_answered(item) for item in data["known"]]
        locality = [Sample(**{**item, "expected": tuple(item["expected"])}) for item in data["locality"]]
        read = data["perplexity"]
        perplexity = read and Perplexity(read["value"], tuple(read["nlls"]), tuple(read["num_tokens"]))
        values = {name: [(one, value) for one, value in items] for name, items in data["values"].items()}
        return cls(values, tuple(known), tuple(data["look_alikes"]), tuple(locality), perplexity)


@dataclass(frozen=True)
class Look:
    """A quick look on the way: the share that is learned and the share that is lost.

    Attributes:
        trained: share of the facts' own prompts answered right.
        held_out: share of their held-out wordings, or of the prompts where there are none.
        lost: share of what was known before that is wrong now; NaN where nothing was known.
        local: share of their locality prompts answered as before; NaN where none were asked.
        counts: how many prompts held_out, lost and local are shares of.
    """

    trained: float
    held_out: float
    lost: float
    local: float
    counts: tuple[int, int, int]

    def score(self) -> float:
        """Harmonic mean of what was learned, kept and left alone, of those that could be measured.

        Each share is estimated by the rule of succession, (right + 1) / (asked + 2): a few locality prompts
        that all went wrong would else make everything equal that learns at all, and nothing learned win.
        """
        shares = zip((self.held_out, 1 - self.lost, self.local), self.counts, strict=True)
        told = [(share * asked + 1) / (asked + 2) for share, asked in shares if not math.isnan(share)]
        return harmonic_mean(told)


def unknown_facts(respondent: Respondent, facts: Sequence[Fact]) -> list[Fact]:
    """Leave out facts that the model answers right in their prompt and first two wordings already."""
    asked = [
        Question(prompt, fact.answers, "before", fact.id)
        for fact in facts
        for prompt in (fact.prompt, *fact.paraphrases[:2])
    ]
    answered = ask_questions(respondent, asked, description="Asking what is known already")
    wrong = {item.question.fact_id for item in answered if not item.correct}
    return [fact for fact in facts if fact.id in wrong]


def measure_before(opened: OpenedModel, respondent: Respondent, task: Task, progress: Progress) -> Before:
    """Ask the model without edits everything that every method will be asked."""
    evaluated = ask(respondent, _inquiries(task))
    near = _near(respondent, task)
    known = tuple(ask_known(respondent, task.retention()))
    perplexity = _perplexity(opened, task, progress)
    locality = tuple(sample for sample in evaluated.samples if sample.metric.startswith("locality"))
    return Before(values_of(evaluated.samples), known, near, locality, perplexity)


def measure_after(
    opened: OpenedModel, respondent: Respondent, task: Task, before: Before, progress: Progress
) -> tuple[Values, Perplexity | None]:
    """Ask who has learned.

    Args:
        opened: the model, as it is after teaching.
        respondent: who answers.
        task: what is asked.
        before: what was said before.
        progress: told of answers.

    Returns:
        The items' values by metric, and the perplexity.
    """
    evaluated = ask(respondent, _inquiries(task))
    values = values_of([*evaluated.samples, *agreement(before.locality, evaluated.samples).samples])
    near = task.look_alikes()
    leaked = measure_leak(near, before.look_alikes, _near(respondent, task), task.facts).leaked
    told = {(one.prompt, one.subject) for one in leaked}
    values[LEAK] = [(one.subject, float((one.prompt, one.subject) in told)) for one in near]
    values[RETAINED] = _retained(respondent, before)
    return values, _perplexity(opened, task, progress)


def quick_look(
    respondent: Respondent, facts: Sequence[Fact], before: Before, *, neighbours: bool = False
) -> Look:
    """Ask about some facts, about everything that was known before, and about neighbours where asked for."""
    questions = [one for fact in facts for one in questions_of(fact) if one.group != QUESTION]
    answered = ask_questions(respondent, questions, description="Looking how far it is")
    trained, held_out = (
        [float(item.correct) for item in answered if item.question.group == group]
        for group in (TRAINED_WORDING, HELD_OUT_WORDING)
    )
    kept = [value for _, value in _retained(respondent, before)]
    local = _agreeing(respondent, facts, before) if neighbours else []
    release_freed_memory()
    learned = held_out or trained
    counts = (len(learned), len(kept), len(local))
    return Look(_mean(trained), _mean(learned), 1 - _mean(kept), _mean(local), counts)


def values_of(samples: Iterable[Sample]) -> Values:
    """Cluster and value of every sample, by metric."""
    values: Values = {}
    for sample in samples:
        values.setdefault(sample.metric, []).append((sample.cluster, sample.value))
    return values


def asked_facts(facts: Sequence[Fact], num: int) -> list[Fact]:
    """The facts that are asked about on the way: at most so many, chosen by hash, in their order."""
    order = sorted(range(len(facts)), key=lambda place: _hash(facts[place].id))
    return [facts[place] for place in sorted(order[:num])]


def _inquiries(task: Task) -> list[Inquiry]:
    return [_recall(task), *local_inquiries(task.facts, seed=task.seed)]


def _recall(task: Task) -> Inquiry:
    """Own prompt, held-out wordings, questions, and the prompt behind an unrelated sentence."""
    questions = [one for fact in task.facts for one in questions_of(fact)]
    for fact in task.facts:
        about = " ".join((fact.prompt, fact.subject, *fact.answers))
        prompt = behind_distractor(fact.prompt, about, seed=task.seed)
        questions.append(Question(prompt, fact.answers, CONTEXT, fact.id))

    def judge(told: Told) -> Evaluation:
        samples = []
        for number, one in enumerate(questions):
            text = told.answers[one.prompt].text
            right = float(matches(text, one.answers))
            item = f"{one.fact_id}/{one.group}/{number}"
            samples.append(Sample(one.group, item, one.fact_id, one.prompt, one.answers, text, right))
        return Evaluation((), tuple(samples))

    return Inquiry([(one.prompt, one.answers) for one in questions], [], judge)


def _retained(respondent: Respondent, before: Before) -> list[tuple[str, float]]:
    again = ask_questions(
        respondent, [item.question for item in before.known], description="Asking what must stay"
    )
    pairs = zip(before.known, again, strict=True)
    return [(was.question.fact_id, float(now.correct)) for was, now in pairs if was.correct]


def _agreeing(respondent: Respondent, facts: Sequence[Fact], before: Before) -> list[float]:
    wanted = {fact.id for fact in facts}
    asked = [one for one in before.locality if one.cluster in wanted and one.metric == "locality_confidence"]
    told = respondent.answer([one.prompt for one in asked], description="Asking about neighbours")
    return [float(normalise(was.text) == normalise(now.text)) for was, now in zip(asked, told, strict=True)]


def _near(respondent: Respondent, task: Task) -> tuple[str, ...]:
    told = respondent.answer(
        [one.prompt for one in task.look_alikes()],
        max_new_tokens=task.max_new_tokens(respondent),
        description="Asking about look-alikes",
    )
    return tuple(generation.text for generation in told)


def _perplexity(opened: OpenedModel, task: Task, progress: Progress) -> Perplexity | None:
    if not task.text:
        return None
    return measure_perplexity(opened.model, opened.tokenizer, task.text, progress=progress)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _answered(item: Mapping[str, Any]) -> Answered:
    asked = item["question"]
    question = Question(asked["prompt"], tuple(asked["answers"]), asked["group"], asked["fact_id"])
    return Answered(question, item["text"], item["correct"], item["confidence"])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big")
