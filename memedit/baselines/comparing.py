"""Comparing: tune each method, run it with each seed, and put together what was found.

What: `Request`, `compare`.
Why: hours of work must survive a crash, an interruption and a closed terminal: every part is a process of its
own that leaves a file, and what is there already is not done again.
How: the caller says how a part is started (`Launch`); memedit.cli.compare starts processes.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.baselines.folder import Folder, Plan, key_of
from memedit.baselines.measuring import Before
from memedit.baselines.methods import METHODS, Settings, checked_settings
from memedit.baselines.summary import summarise
from memedit.baselines.work import run_key, tuning_key
from memedit.editing.plan import EditingSettings
from memedit.editor.reporting import versions
from memedit.errors import MemeditError, UsageError

Launch = Callable[[list[str]], bool]
"""Does a part of the work, by its words ("before reported", "tune lora", "run lora 0"); False = it failed."""


class PartFailed(MemeditError):
    """A part without which nothing can be compared did not come to its end."""


@dataclass(frozen=True)
class Request:
    """What is to be compared.

    Attributes:
        plan: the model and the facts.
        methods: their names.
        seeds: how many; 0 to seeds - 1.
        tune: search for settings first.
        settings: settings by method, over the defaults.
        fresh: do everything again.
    """

    plan: Plan
    methods: Sequence[str]
    seeds: int
    tune: bool
    settings: Mapping[str, Settings]
    fresh: bool = False


def compare(
    request: Request,
    folder: Folder,
    launch: Launch,
    *,
    editing: EditingSettings | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run everything that is not there yet, and return the whole comparison as JSON values.

    Args:
        request: what.
        folder: where results are kept.
        launch: does a part.
        editing: how memedit writes; None = its defaults.
        said: told what is done, a line at a time.

    Raises:
        PartFailed: when the model without edits could not be measured, or no run came to its end.
    """
    editing = editing or EditingSettings()
    parts = _Parts(folder, launch, fresh=request.fresh, said=said)
    folder.write_plan(request.plan)
    key = key_of(request.plan, "reported", editing)
    parts.need(["before", "reported"], folder.before("reported"), key)
    settings, searches = _settings(request, folder, parts, editing)
    folder.write_settings(settings)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in settings}
    for seed in range(request.seeds):
        for name, chosen in settings.items():
            key = run_key(request.plan, editing, name, chosen, seed)
            result = parts.done(["run", name, str(seed)], folder.run(name, seed), key)
            if result is not None:
                runs[name].append(result)
    if not any(runs.values()):
        raise PartFailed("no run came to its end", remedy="The messages above say why.")
    before = json.loads(folder.before("reported").read_text(encoding="utf-8"))
    return {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "model": request.plan.model,
        "versions": versions(),
        "facts": {
            "reported": len(request.plan.reported),
            "known_before": len(request.plan.reported) - len(before["unknown"]),
            "taught": len(before["unknown"]),
            "development": len(request.plan.development),
        },
        **summarise(Before.from_json(before["before"]), runs),
        "tuning": searches,
        "failed": parts.failed,
    }


def _settings(
    request: Request, folder: Folder, parts: _Parts, editing: EditingSettings
) -> tuple[dict[str, Settings], dict[str, Any]]:
    """Each method's settings: given, else searched for, else the defaults; and the searches."""
    settings: dict[str, Settings] = {}
    searches: dict[str, Any] = {}
    for name in request.methods:
        if name in request.settings or not request.tune:
            settings[name] = request.settings.get(name, METHODS[name].defaults)
            continue
        key = tuning_key(request.plan, editing, name)
        found = parts.done(["tune", name], folder.tuned(name), key)
        if found is not None:
            settings[name] = found["settings"]
            searches[name] = {"settings": found["settings"], "trials": found["trials"]}
    return settings, searches


class _Parts:
    """Does parts that are not done."""

    def __init__(self, folder: Folder, launch: Launch, *, fresh: bool, said: Callable[[str], None]) -> None:
        self.folder, self.launch, self.fresh, self.said = folder, launch, fresh, said
        self.failed: list[str] = []

    def done(self, words: list[str], path: Path, key: str) -> dict[str, Any] | None:
        """The result of a part; None when it failed."""
        name = " ".join(words)
        if self.fresh:
            path.unlink(missing_ok=True)
        found = self.folder.found(path, key)
        if found is not None:
            self.said(f"{name}: done before")
            return found
        self.said(f"{name}: started")
        if self.launch(words):
            found = self.folder.found(path, key)
        if found is None:
            self.said(f"{name}: failed")
            self.failed.append(name)
        return found

    def need(self, words: list[str], path: Path, key: str) -> dict[str, Any]:
        """The result of a part without which nothing goes on."""
        found = self.done(words, path, key)
        if found is None:
            raise PartFailed(
                f"{' '.join(words)} did not come to its end", remedy="The message above says why."
            )
        return found


def read_settings(path: Path) -> dict[str, dict[str, float]]:
    """Read settings by method, as `write_settings` wrote them.

    Raises:
        UsageError: when the file cannot be read, or a method or setting is unknown.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"--settings {path}: {error}", remedy="Give a file that --tune wrote.") from error
    if not isinstance(content, dict):
        raise UsageError(f"--settings {path}: expected an object with settings by method")
    for name, settings in content.items():
        if name not in METHODS:
            raise UsageError(f"--settings {path}: got {name!r}, expected methods: {', '.join(METHODS)}")
        if not isinstance(settings, dict):
            raise UsageError(f"--settings {path}: {name}: expected an object with numbers by setting")
    return {name: checked_settings(name, settings, str(path)) for name, settings in content.items()}


def write_settings(path: Path, methods: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Write the settings that a comparison used, for another one to use."""
    content = {name: found["settings"] for name, found in methods}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
