"""Retention: what a model knew before an edit and still knows after it, and the gate that rests on it.

What: the retention suite (`retention_questions`), the comparison of two models (`compare`) and `gate`.
Why: an edit that costs other knowledge must be seen, named item by item, and refused when it is too much; but
a gate that fails on noise is switched off by its users.
How: suite = well-known facts bundled with memedit, and everything injected before. Only items that were right
before can be lost. The gate uses one-sided tests, so that it refuses only a loss beyond the margin that
chance does not explain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.matching import normalise
from memedit.evaluation.recall import Answered, Question, ask_questions
from memedit.evaluation.respondent import ModelRespondent, Respondent
from memedit.evaluation.samples import Evaluation, Sample
from memedit.evaluation.statistics import Metric, binomial_tail, mcnemar_exact, share_metric
from memedit.facts import Fact, read_facts
from memedit.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "INJECTED",
    "METRICS",
    "SIGNIFICANCE",
    "WELL_KNOWN",
    "Change",
    "GateDecision",
    "Retention",
    "answer_known",
    "ask_known",
    "compare",
    "gate",
    "loss_p_value",
    "retained",
    "retention_questions",
    "well_known_facts",
]

WELL_KNOWN = "well_known"
INJECTED = "injected"
SIGNIFICANCE = 0.05
"""A loss counts as real when chance explains it with a lower probability than this."""
_RETAINED = "retained"
_HOW = (
    "items of the retention suite right before that are right after; greedy generation, natural stop, "
    "exact match of target or alias at the start of the answer"
)

METRICS = (
    MetricInfo(
        _RETAINED,
        "retained",
        "items right before and after / items right before",
        "memedit",
        _HOW,
        higher_is_better=True,
    ),
    MetricInfo(
        "perplexity",
        "perplexity",
        "exp(sum of -log p / predicted tokens)",
        "memedit",
        "general text, every token predicted given those before; bootstrap over passages",
        higher_is_better=False,
    ),
    MetricInfo(
        "perplexity_ratio",
        "perplexity",
        "exp((sum of -log p after - sum of -log p before) / predicted tokens) = perplexity after / before",
        "memedit",
        "general text, every token predicted given those before; paired bootstrap over passages",
        higher_is_better=False,
    ),
)
"""The catalogue's entries; the perplexities are perplexity.py's, which needs torch, and stand here since the
gate rests on them and listing what there is must not load it."""


@dataclass(frozen=True)
class Change:
    """A question whose verdict changed, with both answers.

    Args:
        question: What was asked.
        before: The first model's answer.
        after: The second model's answer.
    """

    question: Question
    before: str
    after: str


@dataclass(frozen=True)
class Retention:
    """What was kept of what was right before.

    Args:
        metric: kept / right before, with its Wilson interval; n is the number of items right before.
        kept: Items right before and after.
        lost: Items right before and wrong after.
        gained: Items wrong before and right after, among those asked again.
        p_value: Two-sided exact McNemar test of lost against gained.
    """

    metric: Metric
    kept: int
    lost: tuple[Change, ...]
    gained: int
    p_value: float

    @property
    def right_before(self) -> int:
        """How many items the first model answered right."""
        return self.kept + len(self.lost)

    @property
    def forgetting(self) -> float:
        """Share of the items right before that are wrong after; NaN when none was right."""
        return len(self.lost) / self.right_before if self.right_before else math.nan


@dataclass(frozen=True)
class GateDecision:
    """Whether an edit may be committed.

    Args:
        passed: True when it may.
        reasons: Why not, one sentence for each limit exceeded.
        notes: What could not be judged.
    """

    passed: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()


def well_known_facts() -> list[Fact]:
    """Return the well-known facts bundled with memedit, which any model should keep."""
    bundled = resources.files("memedit.evaluation").joinpath("data/well_known.jsonl")
    with resources.as_file(bundled) as path:
        return read_facts(path)


def retention_questions(
    well_known: Iterable[Fact], injected: Iterable[Fact] = (), *, replaced_by: Iterable[Fact] = ()
) -> list[Question]:
    """Return the retention suite.

    Args:
        well_known: Facts that any model should keep.
        injected: Facts injected by earlier edits that are still active.
        replaced_by: The facts about to be injected: what they state anew (same prompt, or same subject and
            relation) is meant to change and is left out.
    Returns:
        One question per fact, in its own prompt; a prompt that occurs twice is asked for the injected fact.
    """
    replacing = {key for fact in replaced_by for key in _keys(fact)}
    asked: dict[str, Question] = {}
    for group, facts in ((INJECTED, injected), (WELL_KNOWN, well_known)):
        for fact in facts:
            if not replacing & _keys(fact):
                question = Question(fact.prompt, tuple(fact.answers), group, fact.id)
                asked.setdefault(normalise(fact.prompt), question)
    return sorted(asked.values(), key=lambda question: question.group == INJECTED)


def ask_known(
    respondent: Respondent, questions: Sequence[Question], *, max_new_tokens: int = 16
) -> list[Answered]:
    """Find what a respondent knows, and ask it just that in the batches in which it will be asked again.

    An answer can flip by rounding when its batch has another shape (generation.py); asking the same questions
    in the same batches before and after makes the two comparable.

    Args:
        respondent: Who is asked.
        questions: The retention suite.
        max_new_tokens: Most tokens generated per answer.
    Returns:
        Answers to the questions that it got right, from a second run of these alone; a few may be wrong in
        it, and count as never known. Ask the other model exactly these questions (`retained`, or `compare`).
    """
    first = ask_questions(
        respondent, questions, max_new_tokens=max_new_tokens, description="Finding what the model knows"
    )
    known = [answered.question for answered in first if answered.correct]
    return ask_questions(
        respondent, known, max_new_tokens=max_new_tokens, description="Recording what the model knows"
    )


def retained(respondent: Respondent, known: Sequence[Answered], *, max_new_tokens: int = 16) -> Evaluation:
    """Measure what is left of what was known before.

    Args:
        respondent: The model after the edit.
        known: What `ask_known` found of the model before it.
        max_new_tokens: Most tokens generated per answer, as before.
    Returns:
        retained; n counts the items right before. The samples hold both answers, a note the McNemar test.
    """
    questions = [item.question for item in known]
    after = ask_questions(
        respondent, questions, max_new_tokens=max_new_tokens, description="Asking what must stay"
    )
    found = compare(known, after)
    samples = tuple(
        Sample(
            found.metric.name,
            f"{was.question.fact_id}/{was.question.group}",
            was.question.fact_id,
            was.question.prompt,
            was.question.answers,
            now.text,
            float(now.correct),
            {"before": was.text, "group": was.question.group, "confidence": now.confidence},
        )
        for was, now in zip(known, after, strict=True)
        if was.correct
    )
    if not samples:
        return Evaluation((found.metric,), notes=("nothing could be retained: no item was right before",))
    lost = f"{len(found.lost)} of {found.right_before} items were lost"
    return Evaluation((found.metric,), samples, (f"{lost}, exact McNemar p = {found.p_value:.2g}",))


def answer_known(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    max_new_tokens: int = 16,
    progress: Progress = NULL_PROGRESS,
) -> list[Answered]:
    """Find what a model knows; `ask_known` of a model.

    Args:
        model: The model before the edit.
        tokenizer: Its tokenizer.
        questions: The retention suite.
        max_new_tokens: Most tokens generated per answer.
        progress: Told of every answer.
    Returns:
        Answers to the questions that it got right, from a second run of these alone; a few may be wrong in
        it, and count as never known. Ask the other model exactly these questions, then `compare`.
    """
    asked = ModelRespondent(model, tokenizer, progress)
    return ask_known(asked, questions, max_new_tokens=max_new_tokens)


def compare(before: Sequence[Answered], after: Sequence[Answered]) -> Retention:
    """Compare what two models answered to the retention suite.

    Args:
        before: The first model's answers, best from `answer_known`.
        after: The second model's; it need only be asked what the first got right, and best exactly what the
            first was asked.
    Returns:
        What was kept, lost and gained.
    Raises:
        ValueError: an item that was right before has no answer after.
    """
    again = {answered.question: answered for answered in after}
    right = [answered for answered in before if answered.correct]
    missing = [answered.question.prompt for answered in right if answered.question not in again]
    if missing:
        raise ValueError(
            f"after must answer every question that was right before, {len(missing)} of {len(right)} are "
            f"missing, the first is {missing[0]!r}"
        )
    lost = tuple(
        Change(item.question, item.text, again[item.question].text)
        for item in right
        if not again[item.question].correct
    )
    gained = sum(
        item.question in again and again[item.question].correct for item in before if not item.correct
    )
    kept = len(right) - len(lost)
    metric = share_metric(_RETAINED, kept, len(right), _HOW)
    return Retention(metric, kept, lost, gained, mcnemar_exact(len(lost), gained))


def loss_p_value(retention: Retention, allowed: float) -> float:
    """Return the probability of losing so many items or more when each is lost with the allowed probability.

    Args:
        retention: The comparison with the model before.
        allowed: Allowed share of lost items, in [0, 1].
    Returns:
        The one-sided exact p-value; below `SIGNIFICANCE` the loss is beyond the allowed share and beyond
        chance. 1 when nothing was lost; 0 for any loss where none is allowed.
    Raises:
        ValueError: allowed is out of range.

    Source: Clopper and Pearson (1934), The use of confidence or fiducial limits illustrated in the case of
    the binomial.
    """
    return binomial_tail(len(retention.lost), retention.right_before, allowed)


def gate(
    retention: Retention,
    perplexity_ratio: Metric | None,
    *,
    max_forgetting: float,
    max_perplexity_ratio: float,
) -> GateDecision:
    """Decide whether an edit may be committed.

    Retention fails when losing so many items has a probability under 5 % if each is lost with probability
    `max_forgetting`: the one-sided 95 % lower bound (Clopper-Pearson) of the forgetting exceeds the margin.
    At `max_forgetting` 0 any loss fails. Perplexity fails when the lower end of the ratio's 95 % interval
    exceeds the limit, or when the ratio is not a number. A single passage of text has no interval, and its
    ratio is judged as it is.

    Args:
        retention: The comparison with the model before the edit.
        perplexity_ratio: The ratio on general text, or None when it was not measured.
        max_forgetting: Allowed share of lost items, in [0, 1].
        max_perplexity_ratio: Allowed ratio, at least 1.
    Returns:
        The decision with its reasons.
    Raises:
        ValueError: a limit is out of range.
    """
    if not 0 <= max_forgetting <= 1:
        raise ValueError(f"max_forgetting must lie between 0 and 1, got {max_forgetting}")
    if not max_perplexity_ratio >= 1:
        raise ValueError(f"max_perplexity_ratio must be at least 1, got {max_perplexity_ratio}")
    reasons, notes = [], []
    num_lost, total = len(retention.lost), retention.right_before
    if not total:
        notes.append(
            "retention was not judged: the model answered no item of the retention suite right before"
        )
    elif (p_value := loss_p_value(retention, max_forgetting)) < SIGNIFICANCE:
        reasons.append(
            f"{num_lost} of {total} retained facts were lost ({retention.forgetting:.1%}), more than the "
            f"allowed {max_forgetting:.1%} (p = {p_value:.2g})"
        )
    if perplexity_ratio is None:
        notes.append("perplexity was not measured")
    # Written so that NaN fails.
    elif not (lowest := _lowest(perplexity_ratio)) <= max_perplexity_ratio:
        reasons.append(
            f"perplexity on general text is {perplexity_ratio.value:.4f} times what it was (95 % interval "
            f"from {lowest:.4f}), more than the allowed {max_perplexity_ratio:.4f}"
        )
    return GateDecision(not reasons, tuple(reasons), tuple(notes))


def _lowest(ratio: Metric) -> float:
    return ratio.value if math.isnan(ratio.low) else ratio.low


def _keys(fact: Fact) -> set[tuple[str, ...]]:
    keys: set[tuple[str, ...]] = {(normalise(fact.prompt),)}
    if fact.relation:
        keys.add((normalise(fact.subject), fact.relation))
    return keys
