"""Last-written-fact leakage: whether wrong answers are what was written last.

What: `last_written_leak`.
Why: a model that was edited in sequence can begin to answer everything with its newest fact; such answers
are wrong like others, and only this count tells the two apart.
How: among the wrong answers, those that hold a target of the last update, as whole words. A target that is
also an answer to the question itself is no leak; with the answers of the model before, neither is one that
was said then already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from memedit.evaluation.asking import GENERATION
from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.matching import contains, normalise
from memedit.evaluation.samples import Evaluation, Sample, mean_metric

__all__ = ["METRICS", "last_written_leak"]

_LEAK = "last_written_leak"
_HOW = f"{GENERATION}; a target of the last update anywhere in a wrong answer, as whole words"

METRICS = (
    MetricInfo(
        _LEAK,
        "retained",
        "wrong answers that hold a target of the last update / wrong answers",
        "memedit",
        _HOW,
        higher_is_better=False,
    ),
)
"""The catalogue's entries."""


def last_written_leak(
    answered: Sequence[Sample],
    last_answers: Iterable[str],
    *,
    before: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure how many wrong answers hold what was written last.

    Args:
        answered: Samples of generated answers whose value is 1 where they are right; of any questions.
        last_answers: Targets and aliases of the last update.
        before: By item what the model answered before, where that is known; a target that was said then is
            no leak.
        seed: Seed of the interval.
    Returns:
        last_written_leak; n counts wrong answers. NaN where no answer is wrong.
    """
    targets = {normalise(answer): answer for answer in last_answers}
    was = before or {}
    samples = []
    for sample in answered:
        if sample.value != 1:
            said = _held(sample.text, targets, sample.expected)
            leaked = [target for target in said if not contains(was.get(sample.item, ""), [target])]
            samples.append(
                Sample(
                    _LEAK,
                    sample.item,
                    sample.cluster,
                    sample.prompt,
                    sample.expected,
                    sample.text,
                    float(bool(leaked)),
                    {"leaked": leaked},
                )
            )
    how = f"{_HOW}, and not said before" if before is not None else _HOW
    return Evaluation((mean_metric(_LEAK, samples, how, seed=seed),), tuple(samples))


def _held(text: str, targets: Mapping[str, str], expected: Sequence[str]) -> list[str]:
    """The targets that a text holds, but for those that are expected of it."""
    shown, own = normalise(text), {normalise(answer) for answer in expected}
    # The plain search first: thousands of targets are sought in thousands of answers.
    near = [answer for form, answer in targets.items() if form in shown and form not in own]
    return [answer for answer in near if contains(text, [answer])]
