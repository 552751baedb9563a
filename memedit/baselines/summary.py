"""One comparison of all runs: every metric of every method, with its interval and the spread of its seeds.

What: `summarise`.
Why: seeds of one method answer the same questions about the same facts: an interval has to resample facts,
not answers, and the spread over seeds is another thing.
How: the items of all seeds are put together, clustered by fact (memedit.evaluation.samples).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from memedit.baselines.equal_learning import Point, equal_learning
from memedit.baselines.measuring import CONTEXT, LEAK, RETAINED, Before
from memedit.evaluation.combined_means import combined_metric, harmonic_mean
from memedit.evaluation.recall import HELD_OUT_WORDING, QUESTION, TRAINED_WORDING
from memedit.evaluation.samples import Sample, mean_metric
from memedit.evaluation.statistics import Metric, paired_bootstrap_ratio

_GENERATED = "greedy generation, natural stop, exact match of target or alias at the start of the answer"
_COUNTERFACT = "teacher forced, geometric mean over the answer's tokens (CounterFact)"
PROTOCOLS = {
    TRAINED_WORDING: f"{_GENERATED}, prompt of the fact",
    HELD_OUT_WORDING: f"{_GENERATED}, wordings never trained",
    QUESTION: f"{_GENERATED}, question form never trained",
    CONTEXT: f"{_GENERATED}, prompt behind a sentence of unrelated text",
    RETAINED: f"{_GENERATED}, well-known facts right before; none of those that settings are tuned on",
    "locality_agreement": "locality prompts answered as before, whole normalised answer",
    "locality_accuracy": f"{_GENERATED}, locality prompts with a known answer",
    LEAK: "never-taught look-alikes answered with a taught target, and not before",
    "efficacy_score": f"P(new) > P(old), prompt of the fact, {_COUNTERFACT}",
    "paraphrase_score": f"P(new) > P(old), held-out wordings, {_COUNTERFACT}",
    "neighborhood_score": f"P(old) > P(new), neighborhood prompts, {_COUNTERFACT}",
}
"""The metrics, in the order in which they are shown."""

COMBINED = {
    "editing_score": ("efficacy_score", "paraphrase_score", "neighborhood_score"),
    "generated_score": (TRAINED_WORDING, HELD_OUT_WORDING, "locality_agreement"),
}
"""Harmonic means, each with what it combines."""


def summarise(before: Before, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Put all runs together.

    Args:
        before: the model without edits.
        runs: by method what each seed found (Work.run); a method without runs is left out.

    Returns:
        "before": metrics of the model without edits; "methods": by name metrics, costs, settings and
        trajectories; "equal_learning" (equal_learning.py).
    """
    done = {name: list(seeds) for name, seeds in runs.items() if seeds}
    start = _start(before)
    paths = {name: [[start, *_path(run)] for run in seeds] for name, seeds in done.items()}
    known = sum(item.correct for item in before.known)
    return {
        "before": {metric.name: metric.to_json() for metric in _metrics([before.values])},
        "methods": {name: _method(before, seeds) for name, seeds in done.items()},
        "equal_learning": equal_learning(paths, known) if known else None,
    }


def _start(before: Before) -> Point:
    items = before.values.get(HELD_OUT_WORDING) or before.values[TRAINED_WORDING]
    return Point(0.0, math.fsum(value for _, value in items) / len(items), 0.0)


def _path(run: Mapping[str, Any]) -> list[Point]:
    return [
        Point(point["seconds"], point["held_out"], math.nan if point["lost"] is None else point["lost"])
        for point in run["trajectory"]
    ]


def _method(before: Before, seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [run["values"] for run in seeds]
    metrics = {metric.name: metric.to_json() for metric in _metrics(values)}
    ratio = _perplexity_ratio(before, seeds)
    if ratio is not None:
        metrics[ratio.name] = ratio.to_json()
    alone = [{metric.name: metric.value for metric in _metrics([one])} for one in values]
    for name, metric in metrics.items():
        metric["by_seed"] = [one[name] for one in alone] if name in alone[0] else None
    costs = {
        "training_seconds_per_fact": [run["training_seconds"] / run["num_facts"] for run in seeds],
        "training_cpu_seconds_per_fact": [run["training_cpu_seconds"] / run["num_facts"] for run in seeds],
        "peak_memory_mb": [run["peak_memory_bytes"] / 1e6 for run in seeds],
        "training_memory_mb": [
            (run["peak_memory_bytes"] - run["resident_before_bytes"]) / 1e6 for run in seeds
        ],
        "ship_bytes": [run["ship_bytes"] for run in seeds],
    }
    return {
        "metrics": metrics,
        "costs": {name: _spread(numbers) for name, numbers in costs.items()},
        "settings": seeds[0]["settings"],
        "seeds": [run["seed"] for run in seeds],
        "num_facts": seeds[0]["num_facts"],
        "trajectories": [run["trajectory"] for run in seeds],
    }


def _spread(numbers: Sequence[float]) -> dict[str, Any]:
    return {
        "value": math.fsum(numbers) / len(numbers),
        "low": min(numbers),
        "high": max(numbers),
        "by_seed": list(numbers),
    }


def _metrics(seeds: Sequence[Mapping[str, Sequence[Sequence[Any]]]]) -> list[Metric]:
    """Means over the items of all seeds, with intervals over facts, and their harmonic means."""
    pooled = {
        name: [
            Sample(name, f"{seed}/{number}", str(cluster), "", (), "", float(value))
            for seed, values in enumerate(seeds)
            for number, (cluster, value) in enumerate(values.get(name, ()))
        ]
        for name in PROTOCOLS
    }
    metrics = [mean_metric(name, items, PROTOCOLS[name]) for name, items in pooled.items() if items]
    for name, parts in COMBINED.items():
        groups = [pooled[part] for part in parts]
        if all(groups):
            how = f"harmonic mean of {', '.join(parts)}"
            metrics.append(combined_metric(name, groups, harmonic_mean, how))
    return metrics


def _perplexity_ratio(before: Before, seeds: Sequence[Mapping[str, Any]]) -> Metric | None:
    """Geometric mean over seeds of perplexity after / before, with a paired bootstrap over passages."""
    read = before.perplexity
    after = [run["nlls"] for run in seeds]
    if read is None or any(nlls is None for nlls in after):
        return None
    # A passage that became impossible is null in JSON.
    mean = [
        math.fsum(math.inf if one is None else one for one in passage) / len(passage)
        for passage in zip(*after, strict=True)
    ]
    value, low, high = paired_bootstrap_ratio(read.nlls, mean, read.num_tokens, 0)
    how = f"perplexity after / before on {sum(read.num_tokens)} tokens of general text, paired bootstrap"
    return Metric("perplexity_ratio", value, len(mean), low, high, how)
