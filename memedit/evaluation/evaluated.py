"""An evaluation of one state of a model or of two: what `memedit evaluate` reports, and how it is kept.

What: `Evaluated`.
Why: what was measured of a model that has not changed need not be measured again, nor need the model be
loaded for it.
How: as a text of JSON in which NaN and infinities stand as Python writes them, since JSON proper has none.
What lm-evaluation-harness reported is not kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from memedit.evaluation.harness_comparison import HarnessDifference
from memedit.evaluation.lifelong import retention_matrix
from memedit.evaluation.samples import Evaluation, Sample
from memedit.evaluation.statistics import Metric

__all__ = ["Evaluated"]


@dataclass(frozen=True)
class Evaluated:
    """What was measured.

    Attributes:
        states: by name of the state what was found, the reference first where there are two.
        differences: what changed from the first to the second, with paired intervals.
        harness: by state what lm-evaluation-harness reported; empty where none of its tasks was asked for.
        harness_differences: its metrics on both states, where there are two.
    """

    states: Mapping[str, Evaluation]
    differences: Evaluation
    harness: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    harness_differences: tuple[HarnessDifference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the metrics and notes as JSON values, without samples."""
        return {
            "states": {
                name: {
                    "metrics": [metric.to_json() for metric in found.metrics],
                    "notes": list(found.notes),
                    "retention_matrix": _matrix(found),
                }
                for name, found in self.states.items()
            },
            "differences": [metric.to_json() for metric in self.differences.metrics],
            "notes": list(self.differences.notes),
            "lm_eval": {name: _without_samples(run) for name, run in self.harness.items()},
            "lm_eval_differences": [one.to_json() for one in self.harness_differences],
        }

    def to_kept(self) -> str:
        """Return a text that `from_kept` reads back: samples too, but nothing of the harness."""
        states = [[name, asdict(found)] for name, found in self.states.items()]
        return json.dumps({"states": states, "differences": asdict(self.differences)})

    @classmethod
    def from_kept(cls, text: str) -> Evaluated:
        """Read back what `to_kept` returned.

        Raises:
            ValueError: it is damaged.
        """
        try:
            kept = json.loads(text)
            states = {str(name): _evaluation(found) for name, found in kept["states"]}
            return cls(states, _evaluation(kept["differences"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the kept evaluation is damaged: {error!r}") from error


def _evaluation(kept: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        tuple(Metric(**metric) for metric in kept["metrics"]),
        tuple(Sample(**{**sample, "expected": tuple(sample["expected"])}) for sample in kept["samples"]),
        tuple(map(str, kept["notes"])),
    )


def _matrix(found: Evaluation) -> dict[str, Any] | None:
    matrix = retention_matrix(found.samples)
    return matrix.to_json() if matrix.scores else None


def _without_samples(run: Mapping[str, Any]) -> dict[str, Any]:
    tasks = {
        name: {key: value for key, value in task.items() if key != "samples"}
        for name, task in run["tasks"].items()
    }
    return {**run, "tasks": tasks}
