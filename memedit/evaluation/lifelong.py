"""Many edits one after another: what each later one left of the earlier ones.

What: `ask_batches` (one round of questions), `RetentionMatrix`, `lifelong`.
Why: an edit measured right after it was made says nothing of what ten further edits leave of it; and an
evaluation inside the loop must not be reported as the end.
How: batch i is what update i injected. After an update every batch so far is asked in its facts' own prompts
(a round). R[t, i] is the share of batch i that is right after update t, T the last update:
  average score = mean_i R[T, i]           learning score = mean_i R[i, i]
  backward transfer = mean_{i < T} (R[T, i] - R[i, i])
  forgetting = mean_{i < T} (max_{t < T} R[t, i] - R[T, i])
Means over batches, each counting alike, as in the sources; intervals resample the facts within each batch.
Retention by age (edit_age.py) and last-written-fact leakage (last_written.py) need the last round alone.

Source: Lopez-Paz and Ranzato (2017), Gradient Episodic Memory, section 2 (R, average accuracy, backward
transfer); Chaudhry et al. (2018), Riemannian Walk, section 4 (forgetting); Riemer et al. (2019), Meta-
Experience Replay, section 5 (learning accuracy).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedit.evaluation.asking import GENERATION, Inquiry, Told, ask
from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.edit_age import retained_by_age
from memedit.evaluation.last_written import last_written_leak
from memedit.evaluation.matching import matches
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.samples import Evaluation, Sample, joined
from memedit.evaluation.statistics import Metric, widened_interval
from memedit.facts import Fact

__all__ = ["METRICS", "RetentionMatrix", "ask_batches", "lifelong", "retention_matrix"]

_ROUND = "retention_matrix"
_HOW = f"{GENERATION}; exact match of target or alias at the start of the answer, prompt of the fact"
_GEM = "Lopez-Paz and Ranzato 2017, Gradient Episodic Memory, section 2"
_RESAMPLES = 2000


def _info(name: str, formula: str, source: str, *, better: bool = True) -> MetricInfo:
    return MetricInfo(name, "retained", formula, source, _HOW, better)


METRICS = (
    _info("average_score", "mean over batches i of R[T, i], on the final model", _GEM),
    _info(
        "learning_score",
        "mean over batches i of R[i, i], right after the batch's own update",
        "Riemer et al. 2019, Meta-Experience Replay, section 5",
    ),
    _info("backward_transfer", "mean over batches i < T of R[T, i] - R[i, i]", _GEM),
    _info(
        "forgetting",
        "mean over batches i < T of max over t < T of R[t, i], minus R[T, i]",
        "Chaudhry et al. 2018, Riemannian Walk, section 4",
        better=False,
    ),
)
"""The catalogue's entries."""


@dataclass(frozen=True)
class RetentionMatrix:
    """What was right of each batch after each update.

    Args:
        scores: scores[t][i], the share of batch i + 1 that was right after update t + 1; NaN where it was not
            asked.
        sizes: Facts of each batch.
    """

    scores: tuple[tuple[float, ...], ...]
    sizes: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the matrix as JSON values, None where a batch was not asked."""
        rows = [[None if math.isnan(score) else score for score in row] for row in self.scores]
        return {"scores": rows, "sizes": list(self.sizes)}


def ask_batches(respondent: Respondent, batches: Sequence[Sequence[Fact]]) -> tuple[Sample, ...]:
    """Ask a model, as it is after its newest update, everything that was injected so far.

    Args:
        respondent: Who is asked.
        batches: What each update injected, oldest first; their number is the number of updates so far.
    Returns:
        One sample per fact: right or wrong in its own prompt, with its batch and the update in the details.
    """

    def judge(told: Told) -> Evaluation:
        samples = [
            _sample(fact, number, len(batches), told)
            for number, batch in enumerate(batches, start=1)
            for fact in batch
        ]
        return Evaluation((), tuple(samples))

    questions = [(fact.prompt, fact.answers) for batch in batches for fact in batch]
    return ask(respondent, [Inquiry(questions, (), judge)], what="what was injected so far").samples


def _sample(fact: Fact, batch: int, update: int, told: Told) -> Sample:
    answer = told.answers[fact.prompt]
    details = {
        "batch": batch,
        "update": update,
        "confidence": answer.confidence,
        "stopped": answer.stopped,
    }
    right = float(matches(answer.text, fact.answers))
    return Sample(
        _ROUND, f"{fact.id}/prompt", fact.id, fact.prompt, fact.answers, answer.text, right, details
    )


def retention_matrix(samples: Iterable[Sample]) -> RetentionMatrix:
    """Return R[t, i].

    Args:
        samples: What `ask_batches` returned after the updates, of all rounds together and in any order, among
            any others; a round that was not held has none.
    Returns:
        The matrix, [updates, batches] up to the last round; without any rounds it is empty.
    Raises:
        ValueError: a sample names a batch of a later update, or a round holds only a part of a batch.
    """
    told = [sample for sample in samples if sample.metric == _ROUND]
    rounds: list[list[Sample]] = [[] for _ in range(max((one.details["update"] for one in told), default=0))]
    for sample in told:
        rounds[sample.details["update"] - 1].append(sample)
    columns = _columns(rounds)
    scores = [tuple(_share(column[update]) for column in columns) for update in range(len(rounds))]
    return RetentionMatrix(tuple(scores), tuple(column.shape[1] for column in columns))


def lifelong(rounds: Sequence[Sequence[Sample]], *, seed: int = 0) -> Evaluation:
    """Measure what a series of updates kept.

    Args:
        rounds: What `ask_batches` returned after each update, in order; the last one must be there.
        seed: Seed of the intervals.
    Returns:
        average_score, learning_score, backward_transfer, forgetting (n counts the facts of the batches that
        a metric is over), the retention by age, and last_written_leak. A batch that was not asked when a
        metric needs it is left out of that metric, with a note.
    Raises:
        ValueError: there is no last round, or the rounds contradict each other.
    """
    if not rounds or not rounds[-1]:
        raise ValueError("rounds must end with the answers of the final model, got none")
    columns, final = _columns(rounds), rounds[-1]
    resampled = _resampled(columns, seed)
    parts = {name: _over_batches(name, of, columns, resampled) for name, of in _STATISTICS.items()}
    right_after = {
        sample.item
        for samples in rounds
        for sample in samples
        if sample.details["batch"] == sample.details["update"] and sample.value == 1
    }
    newest = [sample for sample in final if sample.details["batch"] == len(rounds)]
    return joined(
        [
            Evaluation(tuple(parts.values()), tuple(final), _notes(columns)),
            retained_by_age(final, right_after, seed=seed),
            last_written_leak(final, [answer for one in newest for answer in one.expected], seed=seed),
        ]
    )


def _best_before(scores: Any) -> Any:
    """The best of the rounds before the last, where any asked."""
    asked = scores[:-1][~np.isnan(scores[:-1, 0])]
    return asked.max(axis=0) if len(asked) else np.full(scores.shape[1], np.nan)


# Each makes of a batch's scores, [updates, resamples], and its own update one number per resample.
_STATISTICS: dict[str, Callable[[Any, int], Any]] = {
    "average_score": lambda scores, _: scores[-1],
    "learning_score": lambda scores, own: scores[own],
    "backward_transfer": lambda scores, own: scores[-1] - scores[own],
    "forgetting": lambda scores, _: _best_before(scores) - scores[-1],
}
_OF_EARLIER = ("backward_transfer", "forgetting")


def _resampled(columns: Sequence[NDArray[np.float64]], seed: int) -> list[NDArray[np.float64]]:
    """For each batch its scores when its facts are drawn again, [updates, resamples]."""
    draws = np.random.default_rng(seed)
    found = []
    for column in columns:
        size = max(1, column.shape[1])
        times = draws.multinomial(size, np.full(size, 1 / size), size=_RESAMPLES)
        found.append(column @ times[:, : column.shape[1]].T / size)
    return found


def _over_batches(
    name: str,
    statistic: Callable[[Any, int], Any],
    columns: Sequence[NDArray[np.float64]],
    resampled: Sequence[NDArray[np.float64]],
) -> Metric:
    """The mean of a statistic over batches, with an interval that resamples the facts within each."""
    values, drawn, number = [], [], 0
    for own in range(len(columns) - 1 if name in _OF_EARLIER else len(columns)):
        size = columns[own].shape[1]
        scores = columns[own].mean(axis=1, keepdims=True) if size else np.full((len(columns), 1), np.nan)
        value = float(statistic(scores, own)[0])
        if not math.isnan(value):
            drawn.append(statistic(resampled[own], own))
            values.append(value)
            number += size
    if not values:
        return Metric(name, math.nan, 0, math.nan, math.nan, _HOW)
    value = math.fsum(values) / len(values)
    low, high = (float(end) for end in np.percentile(np.mean(drawn, axis=0), (2.5, 97.5)))
    how = f"{_HOW}; mean over {len(values)} batches, bootstrap of the facts within each"
    bounds = (-1.0 if name in _OF_EARLIER else 0.0, 1.0)
    return Metric(name, value, number, *widened_interval((low, high), value, number, bounds), how)


def _columns(rounds: Sequence[Sequence[Sample]]) -> list[NDArray[np.float64]]:
    """For each batch the values of its facts after each update, [updates, facts]; NaN where not asked."""
    found: dict[int, dict[str, dict[int, float]]] = {batch: {} for batch in range(1, len(rounds) + 1)}
    for update, samples in enumerate(rounds, start=1):
        for sample in samples:
            batch, named = sample.details["batch"], sample.details["update"]
            if named != update or batch not in found:
                raise ValueError(
                    f"round {update} must hold update {update} and batches 1 to {len(rounds)}, got "
                    f"update {named} and batch {batch} for {sample.item!r}"
                )
            # A cluster is a fact, whatever a caller has made of the items of several rounds.
            found[batch].setdefault(sample.cluster, {})[update] = sample.value
    return [_column(batch, items, len(rounds)) for batch, items in found.items()]


def _column(batch: int, items: dict[str, dict[int, float]], num_updates: int) -> NDArray[np.float64]:
    column = np.full((num_updates, len(items)), np.nan)
    for place, values in enumerate(items.values()):
        for update, value in values.items():
            column[update - 1, place] = value
    partly = np.isnan(column).any(axis=1) & ~np.isnan(column).all(axis=1)
    if partly.any():
        raise ValueError(
            f"round {int(partly.argmax()) + 1} must hold all facts of batch {batch} or none, got some of them"
        )
    return column


def _share(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _notes(columns: Sequence[NDArray[np.float64]]) -> tuple[str, ...]:
    missing = [own + 1 for own, column in enumerate(columns) if math.isnan(_share(column[own]))]
    if not missing:
        return ()
    named = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    return (f"not asked right after their own update, and left out of what needs it: batches {named}",)
