"""The parts of a comparison that need the model: each leaves one file in the folder.

What: `Work.before`, `Work.tune`, `Work.run`.
Why: each runs in a process of its own (memedit.cli.compare_job), so that memory is measured honestly and a
crash costs one part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from memedit.baselines.folder import Folder, Plan, key_of, plain
from memedit.baselines.measuring import (
    Before,
    Purpose,
    Task,
    asked_facts,
    measure_after,
    measure_before,
    quick_look,
    unknown_facts,
)
from memedit.baselines.methods import METHODS, Settings
from memedit.baselines.teaching import Teaching, taught
from memedit.baselines.tuning import search
from memedit.editing.freed_memory import release_freed_memory
from memedit.editing.plan import EditingSettings
from memedit.errors import UsageError
from memedit.evaluation.respondent import ModelRespondent, Respondent
from memedit.facts import Fact
from memedit.modeling.opening import OpenedModel
from memedit.progress import NULL_PROGRESS, Progress


@dataclass
class Work:
    """The parts of one comparison, on one opened model.

    Attributes:
        opened: the model, without edits.
        folder: where everything is.
        editing: how memedit writes.
        progress: told of what takes time.
    """

    opened: OpenedModel
    folder: Folder
    editing: EditingSettings = field(default_factory=EditingSettings)
    progress: Progress = NULL_PROGRESS

    def __post_init__(self) -> None:
        """Read the plan."""
        self.plan: Plan = self.folder.plan()

    def do(self, words: Sequence[str]) -> None:
        """Do a part, named by its words: "before reported", "tune METHOD" or "run METHOD SEED"."""
        what, *rest = words
        if what == "before":
            self.before("development" if rest == ["development"] else "reported")
        elif what == "tune":
            self.tune(*rest)
        else:
            name, seed = rest
            self.run(name, self.folder.settings()[name], int(seed))

    def before(self, purpose: Purpose) -> tuple[Task, Before]:
        """Ask the model without edits, and leave out the facts that it knows."""
        path, key = self.folder.before(purpose), key_of(self.plan, purpose, self.editing)
        kept = self.folder.kept(path, key, lambda: self._before(purpose))
        wanted = set(kept["unknown"])
        facts = [fact for fact in self.plan.facts(purpose) if fact.id in wanted]
        return self._task(facts, purpose), Before.from_json(kept["before"])

    def _before(self, purpose: Purpose) -> dict[str, Any]:
        respondent = ModelRespondent(self.opened.model, self.opened.tokenizer, self.progress)
        facts = unknown_facts(respondent, self.plan.facts(purpose))
        if not facts:
            raise UsageError(
                f"the model knows all {len(self.plan.facts(purpose))} {purpose} facts already",
                remedy="Give facts that it does not know.",
            )
        before = measure_before(self.opened, respondent, self._task(facts, purpose), self.progress)
        return {"unknown": [fact.id for fact in facts], "before": before.to_json()}

    def _task(self, facts: list[Fact], purpose: Purpose) -> Task:
        # Settings are not tuned on the text whose perplexity is reported.
        return Task(tuple(facts), purpose, self.plan.text if purpose == "reported" else "")

    def tune(self, method: str) -> dict[str, Any]:
        """Search for a method's settings on the development facts."""
        task, before = self.before("development")
        key = tuning_key(self.plan, self.editing, method)

        def trial(settings: Settings, num_facts: int) -> dict[str, Any]:
            # Not a look alone: how many facts there are decides how often a row is read and where it goes.
            facts = tuple(asked_facts(task.facts, num_facts))
            name = key_of(
                self.plan, "development", self.editing, method=method, settings=plain(settings), num=num_facts
            )
            path = self.folder.trial(method, name)
            return self.folder.kept(path, name, lambda: self._trial(method, settings, facts, before))

        def make() -> dict[str, Any]:
            found = search(METHODS[method].candidates(), len(task.facts), self.plan.tune_runs, trial)
            return {"settings": plain(found.settings), "trials": list(found.trials)}

        return self.folder.kept(self.folder.tuned(method), key, make)

    def _trial(
        self, method: str, settings: Settings, facts: tuple[Fact, ...], before: Before
    ) -> dict[str, Any]:
        teaching = Teaching(
            method, self.opened, facts, settings, seed=0, editing=self.editing, progress=self.progress
        )
        with taught(teaching) as learned:
            asked = asked_facts(facts, self.plan.look_facts)
            look = quick_look(learned.respondent, asked, before, neighbours=True)
        release_freed_memory()
        return {
            "score": look.score(),
            "held_out": look.held_out,
            "trained": look.trained,
            "lost": look.lost,
            "local": look.local,
            "seconds": teaching.meter.seconds,
        }

    def run(self, method: str, settings: Settings, seed: int) -> dict[str, Any]:
        """Teach the reported facts by one method with one seed, and measure everything."""
        task, before = self.before("reported")
        key = run_key(self.plan, self.editing, method, settings, seed)
        path = self.folder.run(method, seed)
        return self.folder.kept(path, key, lambda: self._run(method, settings, seed, task, before))

    def _run(self, method: str, settings: Settings, seed: int, task: Task, before: Before) -> dict[str, Any]:
        trajectory: list[dict[str, float]] = []
        asked = asked_facts(task.facts, self.plan.look_facts)

        def after_epoch(epoch: int, respondent: Respondent) -> None:
            look = quick_look(respondent, asked, before)
            point = {"trained": look.trained, "held_out": look.held_out, "lost": look.lost}
            spent = {"seconds": teaching.meter.seconds, "cpu_seconds": teaching.meter.cpu_seconds}
            trajectory.append({"epoch": epoch, **spent, **point})

        teaching = Teaching(
            method,
            self.opened,
            task.facts,
            settings,
            seed=seed,
            editing=self.editing,
            after_epoch=after_epoch,
            progress=self.progress,
        )
        release_freed_memory()
        with taught(teaching) as learned:
            values, perplexity = measure_after(self.opened, learned.respondent, task, before, self.progress)
        meter = teaching.meter
        return {
            "method": method,
            "seed": seed,
            "settings": plain(settings),
            "num_facts": len(task.facts),
            "values": values,
            "nlls": None if perplexity is None else list(perplexity.nlls),
            "trajectory": trajectory,
            "training_seconds": meter.seconds,
            "training_cpu_seconds": meter.cpu_seconds,
            "peak_memory_bytes": meter.peak_bytes,
            "resident_before_bytes": meter.resident_bytes,
            "peak_is_of_training_alone": meter.exact,
            "ship_bytes": learned.ship_bytes,
        }


def tuning_key(plan: Plan, editing: EditingSettings, method: str) -> str:
    """Hash what decides a search."""
    grid = [plain(one) for one in METHODS[method].candidates()]
    return key_of(plan, "development", editing, method=method, runs=plan.tune_runs, grid=grid)


def run_key(plan: Plan, editing: EditingSettings, method: str, settings: Settings, seed: int) -> str:
    """Hash what decides a run."""
    return key_of(plan, "reported", editing, method=method, settings=plain(settings), seed=seed)
