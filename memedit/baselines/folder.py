"""The folder of a comparison: what is compared, and what each finished part found.

What: `Plan`, `Folder`.
Why: a comparison takes hours; every part that is done stays done, whatever stops the rest.
How: JSON files, put in place whole. A result carries the hash of everything that decides it: one that was
made for other facts, settings or another version is measured again, never mixed in.

    plan.json                  the model, the facts and how they are split
    settings.json              each method's settings
    before-PURPOSE.json        the model without edits
    tuning/METHOD.json         the search, and in tuning/METHOD/ each training of it
    runs/METHOD-SEED.json      one method, one seed
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memedit import __version__
from memedit.baselines.measuring import Purpose
from memedit.baselines.methods import Settings
from memedit.errors import UsageError
from memedit.facts import Fact
from memedit.store.durable_file import write_durably

_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        model: as the user named it.
        background: background text for a model that has to be calibrated, or None.
        text: general text for the perplexity; empty = it is not measured.
        reported: the facts that are reported; nothing is tuned on them.
        development: the facts that settings are tuned on.
        look_facts: how many facts a quick look on the way asks about.
        tune_runs: most trainings of one method's search.
    """

    model: str
    background: str | None
    text: str
    reported: tuple[Fact, ...]
    development: tuple[Fact, ...]
    look_facts: int
    tune_runs: int

    def facts(self, purpose: Purpose) -> tuple[Fact, ...]:
        """The facts of a purpose."""
        return self.reported if purpose == "reported" else self.development

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        told = {name: [fact.to_json() for fact in self.facts(name)] for name in ("reported", "development")}
        return {**asdict(self), **told}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Read back what `to_json` returned."""
        told = {
            name: tuple(Fact.from_json(item) for item in data[name]) for name in ("reported", "development")
        }
        return cls(**{**data, **told})


class Folder:
    """Where a comparison is kept.

    Args:
        path: the folder; made where there is none.

    Raises:
        UsageError: when it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            for part in ("runs", "tuning"):
                (path / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {path}: {error.strerror}", remedy="Give another folder.") from error

    def write_plan(self, plan: Plan) -> None:
        """Keep what is compared."""
        self._write(self.path / "plan.json", plan.to_json())

    def plan(self) -> Plan:
        """What is compared."""
        return Plan.from_json(json.loads((self.path / "plan.json").read_text(encoding="utf-8")))

    def write_settings(self, settings: Mapping[str, Settings]) -> None:
        """Keep the settings that each method runs with."""
        self._write(self.path / "settings.json", {name: plain(one) for name, one in settings.items()})

    def settings(self) -> dict[str, dict[str, float]]:
        """The settings that each method runs with."""
        found: dict[str, dict[str, float]] = json.loads(
            (self.path / "settings.json").read_text(encoding="utf-8")
        )
        return found

    def before(self, purpose: Purpose) -> Path:
        """Where the model without edits is."""
        return self.path / f"before-{purpose}.json"

    def tuned(self, method: str) -> Path:
        """Where a method's search is."""
        return self.path / "tuning" / f"{method}.json"

    def trial(self, method: str, key: str) -> Path:
        """Where a training of a search is."""
        return self.path / "tuning" / method / f"{key[:16]}.json"

    def run(self, method: str, seed: int) -> Path:
        """Where a method's result is."""
        return self.path / "runs" / f"{method}-{seed}.json"

    def found(self, path: Path, key: str) -> dict[str, Any] | None:
        """Read a result, if it is there, whole, and the one that is asked for."""
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return result if isinstance(result, dict) and result.get("key") == key else None

    def kept(self, path: Path, key: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Read a result, or make it and keep it."""
        result = self.found(path, key)
        if result is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, {"key": key, **make()})
            result = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(result, dict)
        return result

    def _write(self, path: Path, value: Mapping[str, Any]) -> None:
        write_durably(path, json.dumps(_finite(value), allow_nan=False).encode("ascii"))


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def key_of(plan: Plan, purpose: Purpose, editing: object, **about: Any) -> str:
    """Hash everything that decides a result.

    Args:
        plan: what is compared.
        purpose: which facts.
        editing: how memedit writes (a dataclass).
        about: method, settings, seed.
    """
    content = {
        "version": [_VERSION, __version__],
        "model": [plan.model, plan.background, plan.text],
        "facts": [fact.to_json() for fact in plan.facts(purpose)],
        "look": plan.look_facts,
        "editing": asdict(editing),  # type: ignore[call-overload]
        **about,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def plain(settings: Settings) -> dict[str, float]:
    """Settings in one order, so that equal ones have equal hashes."""
    return {name: float(settings[name]) for name in sorted(settings)}
