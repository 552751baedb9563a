"""The plan of the comparison: what is trained, how long, with which rates, and what is asked.

What: `Plan`, `Run`, the settings of each kind, `smoke_plan`, and `runs_of` a plan.
Why: a result is gone on with only where all of this is the same, so it has to be in one place.
How: dataclasses. Rates were chosen on seed 100 (trials: docs/results.md), which is none of those reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from architectures_models import DENSE, KINDS, MEMORY, MEMORY_KINDS, MEMORY_PLUS, MOE, PEER, Size

Settings = Mapping[str, Mapping[str, Any]]
SIZES = (Size("d32", 32, 128, 64), Size("d48", 48, 192, 64))
_LAYER = {"learning_rate": 6e-3, "routing_rate": 6e-3, "value_rate": 3e-2}
TRAINING: Settings = {
    DENSE: {"learning_rate": 6e-3},
    MOE: {"learning_rate": 6e-3},
    PEER: _LAYER,
    MEMORY: _LAYER,
    MEMORY_PLUS: _LAYER,
}
"""Fields of PhaseSettings, by kind."""
LAYERS: Settings = {kind: {"memory_query_norm": "batch"} for kind in MEMORY_KINDS}
"""Fields of MemoryLlamaConfig, by kind."""


@dataclass(frozen=True)
class Run:
    """One model to train.

    Attributes:
        kind: one of KINDS.
        size: of the model.
        seed: of weights, order and wordings.
        num_keys: sub-keys per half; another one than the size's in the curve.
    """

    kind: str
    size: Size
    seed: int
    num_keys: int

    @property
    def name(self) -> str:
        """What it is called in the results."""
        slots = f" {self.num_keys**2} slots" if self.kind in MEMORY_KINDS else ""
        return f"{self.size.name} {self.kind}{slots} seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """What is trained and asked.

    Attributes:
        sizes: of the dense models.
        kinds: which are trained.
        seeds: of weights, order and wordings.
        curve_sizes: names of the sizes at which the number of slots is varied.
        curve_keys: sub-keys per half of the curve's points, beside the size's own.
        curve_kind: whose slots are varied.
        splits: of the corpus, whose facts are learned.
        num_facts: the first so many of them; None = all.
        exposures: how often each fact is read.
        batch_rows: rows a step.
        vocab_size: of the tokenizer.
        asked: questions in each kind of wording, the same for all runs.
        unread_split: part of the corpus that is never read: what guessing from names gives.
        training: fields of PhaseSettings, by kind.
        layers: fields of MemoryLlamaConfig, by kind.
    """

    sizes: tuple[Size, ...] = SIZES
    kinds: tuple[str, ...] = KINDS
    seeds: tuple[int, ...] = (0, 1, 2)
    curve_sizes: tuple[str, ...] = ("d32",)
    curve_keys: tuple[int, ...] = (16, 32, 128)
    curve_kind: str = MEMORY_PLUS
    splits: tuple[str, ...] = ("core",)
    num_facts: int | None = None
    exposures: int = 20
    batch_rows: int = 64
    vocab_size: int = 2048
    asked: int = 2000
    unread_split: str = "slots-test"
    training: Settings = field(default_factory=lambda: TRAINING)
    layers: Settings = field(default_factory=lambda: LAYERS)


def smoke_plan(plan: Plan) -> Plan:
    """The same with a few hundred facts read once by models of a few thousand numbers."""
    sizes = (Size("d16", 16, 64, 8, attention_heads=2, heads=2, top_k=4, experts=4),)
    return replace(
        plan,
        sizes=sizes,
        seeds=plan.seeds[:1],
        curve_sizes=("d16",),
        curve_keys=(4,),
        num_facts=256,
        exposures=1,
        vocab_size=512,
        asked=16,
    )


def changed(plan: Plan, changes: Sequence[str]) -> Plan:
    """Change single settings of a kind.

    Args:
        plan: the plan.
        changes: each "KIND.FIELD=VALUE"; memory_ fields are the layer's, others the training's.

    Raises:
        SystemExit: a change is not of that form or names no kind.
    """
    parts: dict[str, dict[str, dict[str, Any]]] = {
        name: {kind: dict(fields) for kind, fields in getattr(plan, name).items()}
        for name in ("training", "layers")
    }
    for change in changes:
        place, _, value = change.partition("=")
        kind, _, name = place.partition(".")
        if kind not in plan.training or not name or not value:
            raise SystemExit(
                f"--set: got {change!r}, expected KIND.FIELD=VALUE with a kind of {', '.join(plan.training)}"
            )
        part = parts["layers" if name.startswith("memory_") else "training"]
        part.setdefault(kind, {})[name] = _value(value)
    return replace(plan, training=parts["training"], layers=parts["layers"])


def runs_of(plan: Plan) -> list[Run]:
    """All models of a plan, what is wanted most first, so that a comparison that is stopped is of use.

    The first size with all its seeds; the curve of one seed; the other sizes; the curve of the other seeds.
    """
    compared = [
        Run(kind, size, seed, size.num_keys)
        for size in plan.sizes
        for seed in plan.seeds
        for kind in plan.kinds
    ]
    curve = [
        Run(plan.curve_kind, size, seed, num_keys)
        for seed in plan.seeds
        for size in plan.sizes
        if size.name in plan.curve_sizes
        for num_keys in plan.curve_keys
        if num_keys != size.num_keys
    ]
    first = len(plan.seeds) * len(plan.kinds)
    once = sum(run.seed == plan.seeds[0] for run in curve)
    return compared[:first] + curve[:once] + compared[first:] + curve[once:]


def _value(text: str) -> Any:
    """A number, true or false where the text is one in JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
