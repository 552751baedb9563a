"""Where the time of an edit's training goes: the dense blocks above the memory layer, and everything else.

Command:   python -m benchmarks.edit_profile [--facts FILE] [--model NAME] [--json]
Time:      about 2 minutes on two cores, once the model is cached.
Result:    seconds of one training of examples/facts.jsonl and the share of each part. Functions are timed
           from outside by wrapping them; what no part claims is bookkeeping (batches, padding, numbers).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from memedit.editing import plan as plan_module
from memedit.editing import training
from memedit.editing.plan import EditingSettings, plan_edit, train_plan
from memedit.facts import read_facts
from memedit.modeling import MemoryLayer
from memedit.modeling.opening import open_model

ROOT = Path(__file__).parents[1]
DENSE = ("dense blocks and head, forward", "dense blocks and head, backward")


class Clock:
    """Adds up the time spent in named parts; a part inside another is taken out of the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed as this part."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.perf_counter() - started
                self.seconds[part] += whole - self._inner.pop()
                if self._inner:
                    self._inner[-1] += whole

        return run

    @contextmanager
    def watching(self, *watched: tuple[Any, str, str]) -> Iterator[None]:
        """Time (owner, attribute, part) while the context lasts."""
        with ExitStack() as stack:
            for owner, name, part in watched:
                stack.enter_context(mock.patch.object(owner, name, self.timed(part, getattr(owner, name))))
            yield


def profile(model_name: str, facts_file: Path) -> tuple[dict[str, float], dict[str, float], int]:
    """Plan and train one edit; return seconds of its preparation and training by part, and the facts."""
    opened = open_model(model_name)
    facts = read_facts(facts_file)
    settings = EditingSettings()
    before, during = Clock(), Clock()
    with before.watching(
        (MemoryLayer, "route_windows", "routing"),
        (plan_module, "row_states", "lower blocks, the facts' rows"),
        (plan_module, "route_subjects", "lower blocks, subjects and look-alikes"),
        (plan_module, "SlotSelector", "slot statistics"),
        (plan_module, "make_lessons", "frozen prefixes"),
    ):
        plan = plan_edit(opened.model, opened.tokenizer, opened.background, facts, seed=0, settings=settings)
        overlay = plan.selection.blank_overlay(opened.model.config.value_dim)
        with during.watching(
            (plan_module, "train_delta", "bookkeeping"),
            (training, "_losses", DENSE[0]),
            (torch.autograd, "grad", DENSE[1]),
            (training, "slot_rows", "slot_rows"),
            (training, "slot_bag", "slot_bag"),
            (training, "slot_gradient", "slot_gradient"),
            (training, "row_gradient", "slot_gradient"),
            (training, "slot_update", "slot_update"),
        ):
            train_plan(opened.model, plan, overlay, seed=0, settings=settings)
    return dict(before.seconds), dict(during.seconds), len(facts)


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--facts", type=Path, default=ROOT / "examples" / "facts.jsonl")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    before, during, num_facts = profile(arguments.model, arguments.facts)
    total = sum(during.values())
    other = 1 - sum(during[part] for part in DENSE) / total
    if arguments.json:
        figures = {"facts": num_facts, "before_s": before, "training_s": during, "not_dense_share": other}
        print(json.dumps(figures))
        return
    print(f"before training, {num_facts} facts")
    for part, seconds in sorted(before.items(), key=lambda item: -item[1]):
        print(f"  {part:34} {seconds:8.2f} s")
    print(f"training: {total:.1f} s")
    for part, seconds in sorted(during.items(), key=lambda item: -item[1]):
        print(f"  {part:34} {seconds:8.2f} s {seconds / total:7.1%}")
    print(f"not the dense blocks: {other:.1%} of the training")


if __name__ == "__main__":
    main()
