"""The record of a lifelong run: what was planned, what is done, what was found.

What: `Plan`, `Base` (what the model without edits says), `Record` (the JSON file), and what goes into it.
Why: a run of hours is killed now and then; it must go on, and never with other facts or another plan.
How: one JSON file, written whole after every step and renamed into its place.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from memedit.editor.gating import GateMode
from memedit.editor.reporting import versions
from memedit.evaluation import Answered, Perplexity, Question
from memedit.evaluation.samples import Sample
from memedit.facts import Fact

Values = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is taught and how much is asked; a run is gone on with only where all of it is the same.

    Attributes:
        batch: facts of each edit.
        batches: how many edits.
        seed: of the edits, look-alikes and sentences.
        gate: "off" or "quick".
        part: facts of each batch that are asked after every round; None = all.
        every: a round is measured after every so many batches (and after the last).
        look_alikes: never-taught entities.
        provenance: facts whose provenance is looked up at the end; None = all.
        known: a facts file of base knowledge in the taught templates.
        text: general text; None = the bundled one.
    """

    batch: int = 100
    batches: int = 10
    seed: int = 0
    gate: GateMode = "off"
    part: int | None = 25
    every: int = 1
    look_alikes: int = 400
    provenance: int | None = 500
    known: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Base:
    """What the model without edits says.

    Attributes:
        known: right answers to what must stay.
        look_alikes: its answers about never-taught entities.
        perplexity: on general text.
    """

    known: tuple[Answered, ...]
    look_alikes: tuple[str, ...]
    perplexity: Perplexity

    def to_json(self) -> Values:
        """Return JSON values."""
        known = [
            [*vars(item.question).values(), item.text, item.correct, item.confidence] for item in self.known
        ]
        return {"known": known, "look_alikes": list(self.look_alikes), "perplexity": vars(self.perplexity)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Base:
        """Read back what `to_json` returned."""
        known = tuple(
            Answered(Question(prompt, tuple(answers), group, fact_id), text, correct, confidence)
            for prompt, answers, group, fact_id, text, correct, confidence in value["known"]
        )
        read = value["perplexity"]
        perplexity = Perplexity(read["value"], tuple(read["nlls"]), tuple(read["num_tokens"]))
        return cls(known, tuple(value["look_alikes"]), perplexity)


class Record:
    """The JSON file: written whole after every step, so that a killed run loses one step at most."""

    def __init__(self, path: Path, identity: Values, parts: Values | None = None) -> None:
        """Read what a former run left.

        Args:
            path: the file.
            identity: the plan and the facts.
            parts: what a new file holds beside; None = the parts of a lifelong run.
        Raises:
            SystemExit: the file belongs to another run.
        """
        self.path = path
        parts = {"base": None, "batches": [], "rounds": {}, "final": None} if parts is None else parts
        fresh: Values = {"identity": identity, **parts}
        self.values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else fresh
        if self.values["identity"] != identity:
            raise SystemExit(f"{path} is of another run: remove it, or give the same facts and options")

    def save(self, **changes: Any) -> None:
        """Take in what is new and write the file."""
        text = json.dumps({**self.values, **changes}, allow_nan=False)
        new = self.path.with_name(self.path.name + ".new")
        new.write_text(text + "\n", encoding="utf-8")
        new.replace(self.path)
        self.values = json.loads(text)


def identity_of(facts: Sequence[Fact], plan: Plan) -> Values:
    """What must be the same for a run to be gone on with."""
    told = json.dumps([fact.to_json() for fact in facts], sort_keys=True)
    return {**asdict(plan), "facts": len(facts), "facts_sha256": hashlib.sha256(told.encode()).hexdigest()}


def batches_of(facts: Sequence[Fact], plan: Plan) -> list[list[Fact]]:
    """The facts of each edit, in the order of the file.

    Raises:
        SystemExit: there are too few.
    """
    needed = plan.batch * plan.batches
    if len(facts) < needed:
        raise SystemExit(f"{plan.batches} batches of {plan.batch} need {needed} facts, got {len(facts)}")
    return [list(facts[start : start + plan.batch]) for start in range(0, needed, plan.batch)]


def samples_of(record: Record, num_batches: int) -> list[list[Sample]]:
    """The rounds of a record as memedit's metrics want them; a round that was not held is empty."""
    rounds = []
    for update in range(1, num_batches + 1):
        told = record.values["rounds"].get(str(update), {}).get("asked_again", [])
        rounds.append(
            [
                Sample("retention_matrix", f"{name}/prompt", name, "", (), "", value, _place(batch, update))
                for batch, name, value in told
            ]
        )
    return rounds


def _place(batch: int, update: int) -> Values:
    return {"batch": batch, "update": update}


def made_with(recipe: str) -> Values:
    """The command, the commit, the versions and when.

    Args:
        recipe: whose command it was.
    """
    git = shutil.which("git")
    root = Path(__file__).resolve().parent.parent
    asked = [git, "-C", str(root), "rev-parse", "--short", "HEAD"] if git else None
    done = subprocess.run(asked, capture_output=True, text=True, check=False) if asked else None
    return {
        "command": f"python recipes/{recipe} {' '.join(sys.argv[1:])}",
        "commit": done.stdout.strip() if done and done.returncode == 0 else None,
        "versions": versions(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
