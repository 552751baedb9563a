"""What a pretraining is told: frozen dataclasses, read from a TOML file.

A pretraining makes a tokenizer and a model, and trains it in phases. A phase may bring the memory layers in,
and says which parameters move: everything, the dense part, the memory, or the value tables alone. Unknown
keys are refused with a suggestion.
"""

from __future__ import annotations

import difflib
import importlib
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from memedit.errors import UsageError

tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

TRAINS = ("all", "dense", "memory", "values")
VALUE_RULES = ("adam", "adagrad", "sgd")
ROUTINGS = ("random", "fitted")

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class PhaseSettings:
    """One phase of a pretraining.

    Attributes:
        name: what it is called in logs and checkpoints.
        trains: "all", "dense" (everything but the memory), "memory" (routing, output path and values) or
            "values".
        splits: parts of the corpus whose every fact is read once an exposure.
        mixed_splits: parts of which some are read as well.
        mixed_share: share of an exposure's rows that come from them, 0 to 1.
        text: running text in place of facts (see packed.read_texts); None = facts of `splits`.
        row_tokens: tokens a row of running text.
        exposures: how often each fact of `splits`, or the text, is read.
        batch_rows: rows a step.
        full_loss_every: about one row in so many carries loss on all its tokens, not only on the answer;
            0 = none.
        memory: fields of MemoryLlamaConfig with which memory layers come in before the phase; None = none
            do.
        routing: "random", or "fitted" in closed form to the corpus when memory layers come in.
        routing_splits: parts of the corpus that a fitted routing is fitted to.
        learning_rate: of AdamW for the dense part.
        routing_rate: of AdamW for queries, sub-keys and output path.
        value_rate: of the row-wise rule for the value tables.
        value_rule: "adam", "adagrad" or "sgd".
        value_beta1: of "adam"; momentum of "sgd".
        value_beta2: of "adam".
        value_clip: largest norm of the value tables' gradient, apart from the rest; 0 = not clipped.
        clip: largest norm of all other gradients; 0 = not clipped.
        weight_decay: of AdamW, on matrices.
        beta2: of AdamW.
        warmup_steps: steps in which rates rise from 0.
        final_rate: share of each rate that is left at the end (cosine).
    """

    name: str
    trains: str = "all"
    splits: tuple[str, ...] = ("core",)
    mixed_splits: tuple[str, ...] = ()
    mixed_share: float = 0.0
    text: str | None = None
    row_tokens: int = 256
    exposures: int = 24
    batch_rows: int = 64
    full_loss_every: int = 8
    memory: Mapping[str, Any] | None = None
    routing: str = "random"
    routing_splits: tuple[str, ...] = ("core",)
    learning_rate: float = 2e-3
    routing_rate: float = 1e-3
    value_rate: float = 1e-2
    value_rule: str = "adam"
    value_beta1: float = 0.9
    value_beta2: float = 0.99
    value_clip: float = 0.0
    clip: float = 1.0
    weight_decay: float = 0.1
    beta2: float = 0.98
    warmup_steps: int = 60
    final_rate: float = 0.03

    def __post_init__(self) -> None:
        _check_choice("trains", self.trains, TRAINS)
        _check_choice("value_rule", self.value_rule, VALUE_RULES)
        _check_choice("routing", self.routing, ROUTINGS)
        for name in ("exposures", "batch_rows", "row_tokens"):
            _check_number(name, getattr(self, name), 1, math.inf, whole=True)
        for name in ("full_loss_every", "warmup_steps"):
            _check_number(name, getattr(self, name), 0, math.inf, whole=True)
        for name in ("learning_rate", "routing_rate", "value_rate", "value_clip", "clip", "weight_decay"):
            _check_number(name, getattr(self, name), 0, math.inf)
        for name in ("mixed_share", "final_rate", "value_beta1", "value_beta2", "beta2"):
            _check_number(name, getattr(self, name), 0, 1)
        if self.mixed_share == 1:
            raise ValueError("mixed_share: got 1, expected less: nothing of `splits` would be read")
        if not self.splits:
            raise ValueError("splits: got none, expected at least one part of the corpus")


@dataclass(frozen=True)
class PretrainingSettings:
    """A whole pretraining.

    Attributes:
        model: fields of MemoryLlamaConfig; vocab_size and special tokens come from the tokenizer.
        phases: in order.
        vocab_size: of the byte-level BPE tokenizer that is trained.
        tokenizer_splits: parts of the corpus that it is trained on.
        corpus: a corpus file; None = the one that comes with memedit.
        seed: of weights, order and wordings.
    """

    model: Mapping[str, Any]
    phases: tuple[PhaseSettings, ...]
    vocab_size: int = 3072
    tokenizer_splits: tuple[str, ...] = ("core",)
    corpus: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check_number("vocab_size", self.vocab_size, 260, math.inf, whole=True)
        names = [phase.name for phase in self.phases]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"phases: got the names {names}, expected at least one, each once")


def read_settings(path: Path) -> PretrainingSettings:
    """Read a pretraining's settings.

    Args:
        path: a TOML file with the keys of PretrainingSettings; [model] and [[phases]] are tables.

    Raises:
        UsageError: when the file cannot be read, a key is unknown, or a value does not fit.
    """
    try:
        return _settings(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}", remedy="Give a TOML file; see docs/pretraining.md.") from error


def shipped_settings(name: str) -> PretrainingSettings:
    """The settings of a model that memedit builds itself, such as "tiny"."""
    file = resources.files("memedit.pretraining").joinpath(f"data/{name}.toml")
    return _settings(tomllib.loads(file.read_text(encoding="utf-8")), f"{name}.toml")


def _settings(content: dict[str, Any], name: str) -> PretrainingSettings:
    try:
        phases = tuple(_made(PhaseSettings, phase, "phases") for phase in content.pop("phases", ()))
        return _made(PretrainingSettings, {"model": {}, **content, "phases": phases}, "settings")
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: {error}", remedy="See docs/pretraining.md for every key.") from error


def _made(kind: type[Settings], given: Mapping[str, Any], where: str) -> Settings:
    """The dataclass of a table; lists become tuples, unknown keys an error with a suggestion."""
    known = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
            raise ValueError(f"{where}: unknown key {key}: {hint}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})


def _check_choice(name: str, got: object, choices: tuple[str, ...]) -> None:
    if got not in choices:
        raise ValueError(f"{name}: got {got!r}, expected one of {', '.join(choices)}")


def _check_number(name: str, got: object, least: float, most: float, *, whole: bool = False) -> None:
    number = isinstance(got, int) or (isinstance(got, float) and not whole)
    if not number or isinstance(got, bool) or not least <= got <= most:  # type: ignore[operator]
        kind = "a whole number" if whole else "a number"
        most_text = "" if most == math.inf else f" and at most {most:g}"
        raise ValueError(f"{name}: got {got!r}, expected {kind} of at least {least:g}{most_text}")
