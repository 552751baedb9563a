"""One edit as one file: its patch, its facts and its report, sealed.

What: `EditFile`, `encode_edit_file` and `read_edit_file`.
Why: an edit is carried to another store of the same base model by a file that can only hold numbers and text,
and that is refused when a single byte of it is wrong.
How: a safetensors file with the tensors of a patch file; the header's metadata has the patch's own, and in
`edit` everything else as JSON. `seal` is the SHA-256 of the whole file with 64 zeros in its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memedit.errors import MemeditError, StoreCorrupt, StoreTooNew
from memedit.facts.fact import Fact
from memedit.store.patch_file import encode_patch, patch_from_bytes, read_bytes
from memedit.store.patches import Patch
from memedit.store.records import Json, json_text

__all__ = [
    "EDIT_FORMAT_VERSION",
    "EDIT_SUFFIX",
    "EditFile",
    "encode_edit_file",
    "read_edit_file",
    "some_of",
]

EDIT_FORMAT_VERSION = 1
EDIT_SUFFIX = ".safetensors"
_MAX_NAMED = 3
_EDIT, _SEAL = "edit", "seal"
_UNSEALED = "0" * 64
_AGAIN = "Export the edit again, or get the file again from where it came from; nothing was imported."


@dataclass(frozen=True, eq=False)
class EditFile:
    """What is carried of an edit.

    Args:
        patch: Its patch, with `fingerprint` and `seed` in the metadata.
        facts: Its facts.
        outcomes: One JSON object for each fact.
        report: What was measured when it was made.
        measurements: What was measured later.
        seed: The seed that it was made with.
        edit: Its name in the store that it comes from.
        created: When it was made, ISO 8601.
        kind: What it was there.
    """

    patch: Patch
    facts: tuple[Fact, ...]
    outcomes: tuple[Json, ...]
    report: Json
    measurements: tuple[Json, ...]
    seed: int
    edit: str
    created: str
    kind: str

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the base model that it was made for."""
        return str(self.patch.metadata["fingerprint"])


def encode_edit_file(carried: EditFile) -> bytes:
    """Return the bytes of the file; equal edits give equal bytes."""
    told = {
        "format_version": EDIT_FORMAT_VERSION,
        "edit": carried.edit,
        "created": carried.created,
        "kind": carried.kind,
        "seed": carried.seed,
        "facts": [fact.to_json() for fact in carried.facts],
        "outcomes": [dict(outcome) for outcome in carried.outcomes],
        "report": dict(carried.report),
        "measurements": [dict(measurement) for measurement in carried.measurements],
    }
    metadata = {**carried.patch.metadata, _EDIT: json_text(told, f"edit {carried.edit}"), _SEAL: _UNSEALED}
    payload = encode_patch(replace(carried.patch, metadata=metadata))
    return _sealed(payload, _UNSEALED, hashlib.sha256(payload).hexdigest())


def read_edit_file(path: Path) -> EditFile:
    """Read the file of an edit and check all of it.

    Args:
        path: The file.

    Raises:
        StoreCorrupt: Where it is missing, changed in any byte, or is not the file of an edit.
        StoreTooNew: Where a newer memedit wrote it.
        StoreError: Where the system refuses to read it.
    """
    payload = read_bytes(path, None, _AGAIN)
    patch = patch_from_bytes(payload, path, _AGAIN)
    metadata = dict(patch.metadata)
    if _EDIT not in metadata or _SEAL not in metadata:
        raise StoreCorrupt(
            f"{path} holds a patch and nothing of its facts: it is no file of an edit",
            remedy="`memedit patch export EDIT OUT` writes one.",
        )
    told, seal = metadata.pop(_EDIT), metadata.pop(_SEAL)
    found = hashlib.sha256(_sealed(payload, seal, _UNSEALED)).hexdigest()
    if found != seal:
        raise StoreCorrupt(
            f"{path} was changed after it was written: its seal is SHA-256 {seal}, found {found}",
            remedy=_AGAIN,
        )
    try:
        return _decoded(json.loads(told), replace(patch, metadata=metadata), path)
    except (MemeditError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, StoreTooNew):
            raise
        raise StoreCorrupt(f"{path} is not the file of an edit: {error!r}", remedy=_AGAIN) from error


def _sealed(payload: bytes, seal: str, other: str) -> bytes:
    """The same file with another seal in its header."""
    entry = f'"{_SEAL}":"{{}}"'
    return payload.replace(entry.format(seal).encode("ascii"), entry.format(other).encode("ascii"), 1)


def _decoded(told: dict[str, Any], patch: Patch, path: Path) -> EditFile:
    version = told["format_version"]
    if version > EDIT_FORMAT_VERSION:
        raise StoreTooNew(
            f"{path} is the file of an edit in format version {version}, this memedit reads up to "
            f"{EDIT_FORMAT_VERSION}",
            remedy="Update memedit: pip install --upgrade memedit",
        )
    carried = EditFile(
        patch=patch,
        facts=tuple(Fact.from_json(fact) for fact in told["facts"]),
        outcomes=tuple(dict(outcome) for outcome in told["outcomes"]),
        report=dict(told["report"]),
        measurements=tuple(dict(measurement) for measurement in told["measurements"]),
        seed=int(told["seed"]),
        edit=str(told["edit"]),
        created=str(told["created"]),
        kind=str(told["kind"]),
    )
    if not carried.fingerprint:
        raise ValueError("it names no base model")
    return carried


def some_of(subjects: Sequence[str]) -> str:
    """Name a few subjects, each once, and say how many more there are."""
    distinct = list(dict.fromkeys(subjects))
    left = len(distinct) - _MAX_NAMED
    return ", ".join(distinct[:_MAX_NAMED]) + (f" and {left} more" if left > 0 else "")
