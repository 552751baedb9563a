"""Models that memedit knows by name and makes itself: `memedit models build NAME` pretrains them.

What: their names, and where they lie once they are built.
Why: a model whose facts live in its value table is not to be had anywhere, and is made in minutes.
How: they are in the cache beside those that are pulled; who needs one that is not there is told what to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from memedit.errors import ModelUnavailable, UsageError

__all__ = [
    "BUILT_MODELS",
    "BuiltModel",
    "built_folder",
    "describe_built_model",
    "require_built_model",
    "resolve_built_model",
]


@dataclass(frozen=True)
class BuiltModel:
    """A model that `memedit models build NAME` can make.

    Args:
        name: What a user types.
        description: One line for a list.
        minutes: How long it takes on two cores, about.
        licence: Of the weights and what they were trained on.
    """

    name: str
    description: str
    minutes: int
    licence: str


BUILT_MODELS: Mapping[str, BuiltModel] = MappingProxyType(
    {
        "tiny": BuiltModel(
            name="tiny",
            description="a memory-layer Llama (4 layers, hidden 128) whose value table holds facts",
            minutes=10,
            licence="Apache-2.0; facts from GeoNames (CC BY 4.0), countryinfo and mendeleev (MIT)",
        )
    }
)


def built_folder(name: str, cache: Path) -> Path:
    """Folder that holds a built model once it is built.

    Args:
        name: A key of `BUILT_MODELS`.
        cache: The cache's root.
    """
    return cache / "models" / name


def resolve_built_model(name: str, cache: Path) -> Path:
    """The folder of a built model.

    Args:
        name: A key of `BUILT_MODELS`.
        cache: The cache's root.

    Raises:
        ModelUnavailable: It is not built yet.
    """
    folder = built_folder(name, cache)
    if (folder / "config.json").is_file():
        return folder
    raise ModelUnavailable(
        f"The model {name!r} is not built yet.",
        remedy=f"memedit models build {name} (about {BUILT_MODELS[name].minutes} minutes on two cores).",
    )


def require_built_model(name: str) -> BuiltModel:
    """Look up a built model.

    Args:
        name: What the user typed.

    Raises:
        UsageError: No built model has that name.
    """
    if name in BUILT_MODELS:
        return BUILT_MODELS[name]
    raise UsageError(
        f"No model {name!r} to build; known: {', '.join(BUILT_MODELS)}.",
        remedy="A model of your own: memedit pretrain CONFIG OUT.",
    )


def describe_built_model(name: str, cache: Path) -> dict[str, Any]:
    """All that there is to say about a built model, ready for JSON.

    Args:
        name: A key of `BUILT_MODELS`.
        cache: The cache's root.

    Returns:
        name, description, licence, minutes, path, built, size_bytes (null when not built).
    """
    model, folder = require_built_model(name), built_folder(name, cache)
    built = (folder / "config.json").is_file()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if built else None
    return {
        "name": model.name,
        "description": model.description,
        "licence": model.licence,
        "minutes": model.minutes,
        "path": str(folder),
        "built": built,
        "size_bytes": size,
    }
