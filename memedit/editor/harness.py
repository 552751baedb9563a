"""lm-evaluation-harness on the base model and on the edited one, with the differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from memedit.editing.freed_memory import release_freed_memory
from memedit.editor.overlays import wearing
from memedit.evaluation import HarnessDifference, compare_harness, harness_tasks
from memedit.modeling import MemoryLlamaForCausalLM
from memedit.progress import NULL_PROGRESS, Progress


@dataclass(frozen=True)
class HarnessRuns:
    """The same tasks on two models.

    Attributes:
        base: what `harness_tasks` gave for the model without any edit.
        edited: the same for the model with the edits that it wore.
        differences: edited - base, metric by metric.
    """

    base: dict[str, Any]
    edited: dict[str, Any]
    differences: tuple[HarnessDifference, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the runs, without their samples, and the differences as JSON values."""
        return {
            "base": _without_samples(self.base),
            "edited": _without_samples(self.edited),
            "differences": [difference.to_json() for difference in self.differences],
        }


def harness_on_base_and_edited(
    model: MemoryLlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = NULL_PROGRESS,
) -> HarnessRuns:
    """Run tasks of lm-evaluation-harness on a model without its edits and with them.

    Args:
        model: the model, wearing the edits in question.
        tokenizer: its tokenizer.
        tasks: names of the harness's tasks or groups, or paths of task files (YAML).
        limit: most questions of each task; None = all.
        seed: of what the harness draws, and of the intervals.
        progress: told of every question.

    Raises:
        UsageError: when the harness is not installed, a task is not known, or its data cannot be had.
    """
    with wearing(model, None):
        base = harness_tasks(model, tokenizer, tasks, limit=limit, seed=seed, progress=progress)
    release_freed_memory()
    edited = harness_tasks(model, tokenizer, tasks, limit=limit, seed=seed, progress=progress)
    release_freed_memory()
    return HarnessRuns(base, edited, tuple(compare_harness(base, edited, seed=seed)))


def _without_samples(run: dict[str, Any]) -> dict[str, Any]:
    tasks = {
        name: {key: value for key, value in task.items() if key != "samples"}
        for name, task in run["tasks"].items()
    }
    return {**run, "tasks": tasks}
