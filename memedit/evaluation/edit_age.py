"""Retention by age: what is left of an edit after so many later ones, on the final model alone.

What: `retained_by_age`, `AGES`.
Why: a store of many edits is measured once, at the end; an old edit and the newest must not hide in one mean.
How: the age of a fact is the number of updates after its own. Ages are grouped by doubling, so that a store
of a thousand edits has ten numbers, each with enough facts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from memedit.evaluation.asking import GENERATION
from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.samples import Evaluation, Sample, mean_metric

__all__ = ["AGES", "METRICS", "age_name", "retained_by_age"]

AGES: tuple[tuple[int, int | None], ...] = (
    (0, 0),
    (1, 1),
    (2, 3),
    (4, 7),
    (8, 15),
    (16, 31),
    (32, 63),
    (64, None),
)
"""Groups of ages, each from and to how many later updates."""

_HOW = f"{GENERATION}; exact match of target or alias at the start of the answer, prompt of the fact"


def age_name(age: int) -> str:
    """Return the name of the metric that counts facts of that age.

    Args:
        age: How many updates came after the fact's own, 0 or more.
    """
    first, last = next(group for group in reversed(AGES) if group[0] <= age)
    if last is None:
        return f"retained_age_{first}_or_more"
    return f"retained_age_{first}" if first == last else f"retained_age_{first}_to_{last}"


METRICS = tuple(
    MetricInfo(
        age_name(first),
        "retained",
        "right on the final model / right after their own update, facts with that many later updates",
        "memedit",
        _HOW,
        higher_is_better=True,
    )
    for first, _ in AGES
)
"""The catalogue's entries."""


def retained_by_age(
    final: Sequence[Sample], learned: Collection[str] | None = None, *, seed: int = 0
) -> Evaluation:
    """Measure how many injected facts the final model still gets right, by the age of their edit.

    Args:
        final: What `lifelong.ask_batches` returned of the final model.
        learned: Items that were right after their own update; others cannot be retained and do not count.
            None = count every fact, as where that is not known.
        seed: Seed of the intervals.
    Returns:
        One metric for each group of ages that occurs, youngest first; n counts facts.
    """
    groups: dict[str, list[Sample]] = {age_name(first): [] for first, _ in AGES}
    for sample in final:
        if learned is None or sample.item in learned:
            name = age_name(sample.details["update"] - sample.details["batch"])
            groups[name].append(replace(sample, metric=name))
    of = "all injected facts" if learned is None else "facts right after their own update"
    kept = {name: samples for name, samples in groups.items() if samples}
    metrics = tuple(
        mean_metric(name, samples, f"{_HOW}, final model; {of}", seed=seed) for name, samples in kept.items()
    )
    return Evaluation(metrics, tuple(sample for samples in kept.values() for sample in samples))
