"""What an ablation measures of one edit, and how two edits are compared item by item.

What: `Bench` (facts and what is asked about them), `measure_edit`, `differences`.
Why: two variants differ by a few items; only the same items, paired, tell whether that is more than chance.
How: the questions are the lifelong recipe's (Yardstick), matching, leak and intervals memedit.evaluation's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lifelong_measures import Yardstick, all_questions, by_group
from lifelong_record import Base

from memedit.editing.plan import EditingSettings
from memedit.editor.overlays import composed_overlay, wearing
from memedit.editor.transaction import Injection, Limits
from memedit.evaluation import (
    compare,
    general_text,
    generate_answers,
    measure_leak,
    measure_perplexity,
    perplexity_ratio,
)
from memedit.evaluation.samples import Sample, difference_metric
from memedit.evaluation.statistics import Metric
from memedit.facts import Fact
from memedit.modeling.opening import OpenedModel
from memedit.progress import NULL_PROGRESS, Progress
from memedit.store import Store

Values = dict[str, Any]
Items = Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Bench:
    """The facts of an ablation, and what is asked about them.

    Attributes:
        opened: the model.
        store: an empty store: no variant is committed.
        facts: what every variant teaches.
        yardstick: the questions.
        seed: of the edits and what is asked.
        text: general text whose perplexity is measured; None = the bundled one.
    """

    opened: OpenedModel
    store: Store
    facts: tuple[Fact, ...]
    yardstick: Yardstick
    seed: int
    text: str | None = None


def measure_edit(
    bench: Bench, base: Base, settings: EditingSettings, progress: Progress = NULL_PROGRESS
) -> Values:
    """Write the facts with some settings, and measure the model that wears the edit.

    Args:
        bench: model, facts and questions.
        base: what the model without edits says.
        settings: how the facts are written.
        progress: told of what takes time.

    Returns:
        `metrics` with intervals, `items` (of each measure, cluster and value of every item), and `costs`.
    """
    started = time.perf_counter()
    limits = Limits(1.0, 1.0, "off")
    injection = Injection(
        bench.opened,
        bench.store,
        seed=bench.seed,
        text=general_text(bench.text),
        settings=settings,
        limits=limits,
        progress=progress,
    )
    patch, result = injection.train(bench.facts)
    training = time.perf_counter() - started
    with wearing(bench.opened.model, composed_overlay(bench.opened.model, [patch])):
        metrics, items = _measured(bench, base)
    rows = len(patch.tables[0].slots)
    costs = {
        "row_reads_per_fact": result.trained.num_reads / len(bench.facts),
        "seconds": round(training, 2),
        "measuring_seconds": round(time.perf_counter() - started - training, 2),
        "margin_reached": int(result.trained.learned.sum()),
        "slots_per_fact": rows / len(bench.facts),
    }
    return {"metrics": metrics, "items": items, "costs": costs}


def _measured(bench: Bench, base: Base) -> tuple[dict[str, Values], dict[str, Items]]:
    """Metrics and items of the model as it is."""
    yardstick = bench.yardstick
    answered = yardstick.ask(all_questions(bench.facts, bench.seed))
    metrics = by_group(answered)
    items: dict[str, Items] = {}
    for name in metrics:
        of_group = [item for item in answered if item.question.group == name]
        items[name] = [(item.question.fact_id, float(item.correct)) for item in of_group]
    again = yardstick.ask([item.question for item in base.known])
    metrics["retained"] = compare(base.known, again).metric.to_json()
    items["retained"] = [(item.question.prompt, float(item.correct)) for item in again]
    prompts = [one.prompt for one in yardstick.look_alikes]
    model, tokenizer = bench.opened.model, bench.opened.tokenizer
    said = generate_answers(model, tokenizer, prompts, max_new_tokens=yardstick.max_new_tokens)
    after = [one.text for one in said]
    leak = measure_leak(yardstick.look_alikes, base.look_alikes, after, bench.facts)
    leaked = {item.prompt for item in leak.leaked}
    metrics["leak"] = leak.leak.to_json()
    items["leak"] = [(prompt, float(prompt in leaked)) for prompt in prompts]
    perplexity = measure_perplexity(model, tokenizer, general_text(bench.text))
    metrics["perplexity_ratio"] = perplexity_ratio(base.perplexity, perplexity).to_json()
    return metrics, items


def differences(found: Mapping[str, Items], default: Mapping[str, Items], seed: int) -> dict[str, Values]:
    """The paired difference of a variant to the default, for each measure, as JSON.

    Args:
        found: (cluster, value) of each item of each measure under the variant.
        default: the same items, in the same order, under the default.
        seed: of the resampling.

    Returns:
        By measure a metric: the mean of variant minus default, its n and its 95 % interval.

    Raises:
        ValueError: the items are not the same.
    """
    for name, items in found.items():
        if [cluster for cluster, _ in items] != [cluster for cluster, _ in default[name]]:
            raise ValueError(f"{name}: the variant was not asked what the default was asked")
    return {name: _difference(name, default[name], items, seed).to_json() for name, items in found.items()}


def _difference(name: str, default: Items, variant: Items, seed: int) -> Metric:
    paired = difference_metric(name, _samples(name, default), _samples(name, variant), "", seed=seed)
    num_clusters = len({cluster for cluster, _ in default})
    how = f"{name} of the variant minus that of the default, paired bootstrap over {num_clusters} clusters"
    return replace(paired, protocol=how)


def _samples(name: str, items: Items) -> list[Sample]:
    return [
        Sample(name, str(place), cluster, "", (), "", value) for place, (cluster, value) in enumerate(items)
    ]
