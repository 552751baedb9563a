"""An evaluation that was made before and still holds: shown again without loading the model.

What: `evaluation_entry` names what an evaluation rests on, `kept_evaluation` finds it in the store's cache.
Why: a report is looked at more often than it is measured, and loading a model takes longer than all that is
kept about it.
How: the name is a hash of everything that decides the result: the model's files by size and time of change,
the store's fingerprint and active patches, what is asked, and the versions and settings that decide how sums
are rounded. A store or a model that cannot be looked at without being opened has no entry.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from memedit import __version__
from memedit.evaluation.evaluated import Evaluated
from memedit.facts.formats import Records
from memedit.modeling.named_models import NAMED_MODELS, cache_root, is_cached, model_folder
from memedit.store import Store

__all__ = ["evaluation_entry", "kept_evaluation"]

_VERSION = 1
_LIBRARIES = ("torch", "transformers")
_ROUNDING = ("MEMEDIT_KERNELS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def evaluation_entry(
    store: Path, model: str | None, records: Records | None, asked: Mapping[str, Any]
) -> str | None:
    """Name an evaluation in the store's cache.

    Args:
        store: The store's folder.
        model: What the user named; None = the model that the store's edits were made with.
        records: The data that is asked; None = what the active edits injected.
        asked: What else decides the result: states, families, limit, seed, and the like.
    Returns:
        The name; None where there is no store yet, or the model is not at hand as a folder.
    """
    if not (store / "journal.sqlite").exists():
        return None
    with Store.open(store, fingerprint=None, read_only=True) as journal:
        named = model or journal.recorded_model()
        patches = [[edit.id, edit.patch_sha256] for edit in journal.edits() if edit.active]
        fingerprint = journal.fingerprint
    folder = None if named is None else _folder(named)
    if folder is None:
        return None
    data = None if records is None else repr((records.facts, records.questions))
    text = asked.get("text")
    rests_on = [
        _VERSION,
        [fingerprint, patches, _files(store / "patches")],
        [named, _files(folder), _files(cache_root() / "retrofits")],
        [data, None if text is None else Path(text).read_text(encoding="utf-8", errors="replace")],
        sorted((name, str(value)) for name, value in asked.items()),
        [__version__, *(version(library) for library in _LIBRARIES)],
        [os.environ.get(name) for name in _ROUNDING],
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    ]
    return f"evaluation-{hashlib.sha256(json.dumps(rests_on).encode('ascii')).hexdigest()}"


def kept_evaluation(store: Path, entry: str) -> Evaluated | None:
    """Return the evaluation of that name, None where there is none that can be read."""
    with Store.open(store, fingerprint=None, read_only=True) as journal:
        kept = journal.read_cache(entry)
    if isinstance(kept, str):
        # A damaged one is measured afresh.
        with suppress(ValueError):
            return Evaluated.from_kept(kept)
    return None


def _folder(named: str) -> Path | None:
    """Where a model's files are, if nothing has to be fetched for it."""
    if named in NAMED_MODELS:
        return model_folder(named) if is_cached(named) else None
    folder = Path(named).expanduser()
    return folder if folder.is_dir() else None


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of every file in a folder."""
    if not folder.is_dir():
        return []
    found = ((path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file())
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]
