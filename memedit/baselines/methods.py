"""The methods that are compared: names, settings, search grids, and what must be installed.

What: `METHODS`, `chosen_methods`, `checked_settings`.
Why: names and settings are checked before a model is loaded, so nothing here imports torch.
How: the defaults are usual values of each method, for a run without `--tune`; a grid lists the values that
the search tries. The settings of memory are factors of memedit's own.
"""

from __future__ import annotations

import difflib
import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memedit.errors import UsageError

Settings = Mapping[str, float]
"""A method's settings: numbers by name."""


@dataclass(frozen=True)
class MethodInfo:
    """One method.

    Attributes:
        help: what it is, in a line.
        module: the module of this package that teaches with it.
        defaults: its settings.
        grid: values that tuning tries, by setting.
        requires: modules of the extra `baselines` that it needs.
        ranking: for memory: how slots are chosen (memedit.editing.selection).
    """

    help: str
    module: str
    defaults: Settings
    grid: Mapping[str, Sequence[float]]
    requires: tuple[str, ...] = ()
    ranking: str = "contrast"

    def candidates(self) -> list[dict[str, float]]:
        """Every setting of the grid, in a fixed order, the defaults first."""
        names = list(self.grid)
        made = [dict(zip(names, values, strict=True)) for values in itertools.product(*self.grid.values())]
        known = dict(self.defaults)
        return [known, *({**known, **values} for values in made if {**known, **values} != known)]


def _memory(ranking: str, what: str) -> MethodInfo:
    rates = (0.5, 1.0, 2.0) if ranking == "contrast" else (0.25, 1.0, 4.0, 16.0)
    return MethodInfo(
        what,
        "sparse_memory",
        {"rate_factor": 1.0, "epochs_factor": 1.0},
        {"rate_factor": rates, "epochs_factor": (1.0, 2.0)},
        ranking=ranking,
    )


METHODS: dict[str, MethodInfo] = {
    "memory": _memory("contrast", "memedit: own slots for each subject, behind a gate"),
    "memory-tfidf": _memory("tfidf", "sparse memory, slots by TF-IDF, no owners and no gate"),
    "memory-tf": _memory("tf", "sparse memory, slots by their use alone"),
    "memory-kl": _memory("kl", "sparse memory, slots by their part in the KL divergence"),
    "memory-all": _memory("all", "sparse memory, every slot that is looked up"),
    "full": MethodInfo(
        "full fine-tuning: every weight, AdamW",
        "full_tuning",
        {"learning_rate": 3e-5, "epochs": 5, "batch_rows": 32},
        {"learning_rate": (1e-5, 3e-5, 1e-4, 3e-4), "epochs": (3, 5, 10)},
    ),
    "lora": MethodInfo(
        "LoRA on all linear layers",
        "lora",
        {"learning_rate": 1e-3, "epochs": 8, "rank": 16, "batch_rows": 32},
        {"learning_rate": (3e-4, 1e-3, 3e-3), "epochs": (4, 8), "rank": (8, 32)},
        requires=("peft",),
    ),
    "locft": MethodInfo(
        "LocFT-BF: one MLP down-projection, breadth-first mini-batches",
        "located_tuning",
        {"learning_rate": 1e-3, "epochs": 10, "depth": 0.6, "batch_rows": 32},
        {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3), "epochs": (6, 12), "depth": (0.2, 0.4, 0.6, 0.8)},
    ),
    "rag": MethodInfo(
        "retrieval: the nearest statements in front of the prompt, nothing trained",
        "retrieval",
        {"num_statements": 1, "min_share": 0.4},
        {"num_statements": (1, 2, 4), "min_share": (0.0, 0.2, 0.4, 0.6)},
        requires=("bm25s",),
    ),
}
"""The methods by name, in the order in which they are shown."""


def chosen_methods(names: str) -> list[str]:
    """Read a list of methods.

    Args:
        names: names separated by commas, or "all".

    Raises:
        UsageError: when a name is unknown or nothing is named.
    """
    wanted = list(METHODS) if names.strip() == "all" else [name.strip() for name in names.split(",")]
    wanted = list(dict.fromkeys(name for name in wanted if name))
    if not wanted:
        raise UsageError(f"--methods: got none, expected some of {', '.join(METHODS)}")
    for name in wanted:
        if name not in METHODS:
            raise UsageError(_unknown("--methods", name, list(METHODS)))
    return wanted


def require_installed(modules: Sequence[str], what: str) -> None:
    """Refuse what cannot run here.

    Args:
        modules: modules of the extra `baselines`.
        what: what needs them.

    Raises:
        UsageError: when one is missing; it says how to install it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{what} needs {', '.join(missing)}, which is not installed",
            remedy="Install it: pip install 'memedit[baselines]'",
        )


def checked_settings(name: str, settings: Mapping[str, object], where: str) -> dict[str, float]:
    """Complete a method's settings with its defaults.

    Args:
        name: the method.
        settings: some of its settings.
        where: the file or option that they come from.

    Raises:
        UsageError: when a setting is unknown or no positive number (0 is allowed for shares).
    """
    known = METHODS[name].defaults
    for key, value in settings.items():
        if key not in known:
            raise UsageError(_unknown(f"{where}: setting of {name}", key, list(known)))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise UsageError(f"{where}: {name}.{key}: got {value!r}, expected a number of at least 0")
    return {key: float(settings.get(key, value)) for key, value in known.items()}  # type: ignore[arg-type]


def _unknown(where: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{where}: got {name!r}, expected one of {', '.join(known)}{hint}"
