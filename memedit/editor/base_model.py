"""What is known of the model that the edits rest on: what to call it, where it comes from, its licence.

What: `base_model`.
Why: whoever gets an exported model must learn whose weights these are and what they may be used for, and no
path of the machine that made it.
How: named models say so themselves; a local folder may say so in the record of its source, or in its card.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from memedit.modeling.named_models import NAMED_MODELS

__all__ = ["BaseModel", "base_model"]

_SOURCE_FILE = "memedit_source.json"
_IN_CARD = {
    "origin": re.compile(r"^base_model:\s*(\S+)\s*$", re.MULTILINE),
    "licence": re.compile(r"^license:\s*(\S+)\s*$", re.MULTILINE),
}


@dataclass(frozen=True)
class BaseModel:
    """The model that edits rest on.

    Attributes:
        name: what loads it: a named model, a hub id, or the last part of a local folder.
        origin: who made it, under which name; None = not recorded.
        licence: of its weights; None = not recorded.
        loads: whether the name means the same on other machines.
    """

    name: str
    origin: str | None
    licence: str | None
    loads: bool = True


def base_model(name: str) -> BaseModel:
    """Return what is known of a model.

    Args:
        name: what the user named, a local folder as an absolute path.
    """
    if name in NAMED_MODELS:
        named = NAMED_MODELS[name]
        return BaseModel(name, named.origin, named.licence)
    folder = Path(name)
    if not folder.is_absolute():
        return BaseModel(name, name if "/" in name else None, None, loads="/" in name)
    said = _said_in(folder)
    return BaseModel(folder.name, said.get("origin"), said.get("licence"), loads=False)


def _said_in(folder: Path) -> dict[str, str]:
    """What a local folder says of origin and licence."""
    try:
        source = json.loads((folder / _SOURCE_FILE).read_text(encoding="utf-8"))
        return {key: source[key] for key in ("origin", "licence") if isinstance(source.get(key), str)}
    except (OSError, ValueError, AttributeError):
        pass
    try:
        card = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return {}
    header = card.split("---")[1] if card.startswith("---") and card.count("---") > 1 else ""
    found = {key: pattern.search(header) for key, pattern in _IN_CARD.items()}
    return {key: match.group(1) for key, match in found.items() if match}
