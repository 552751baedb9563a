"""A patch as a safetensors file: the same patch gives the same bytes, and no damaged file passes for a patch.

What: `encode_patch`, `write_patch`, `read_patch`.
Why: a patch file is shared between people, so it can hold numbers and strings only, never code; and its
SHA-256 stands in the journal, so its bytes must depend on nothing but its content.
How: tensors `table<i>.slots`, `.delta`, `.owners`, `.rows`, `owners.thresholds` and `owners.discriminants`;
the subjects as JSON in the header's metadata. Equal rows are written once; integers take four bytes where
they fit. safetensors keeps metadata in no order, so the header is written again with sorted keys. Files of
format 1, which have a row for each slot, and of format 2, without discriminants, are read too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from memedit.errors import StoreCorrupt, StoreError, StoreTooNew
from memedit.store.durable_file import write_durably
from memedit.store.patches import (
    DISCRIMINANT_TYPE,
    RESERVED_METADATA,
    Owner,
    Patch,
    TablePatch,
    discriminants_of,
)

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "PatchFile",
    "encode_patch",
    "patch_from_bytes",
    "read_bytes",
    "read_patch",
    "sha256_of",
    "write_patch",
]

FORMAT = "memedit-patch"
FORMAT_VERSION = 3
_THRESHOLDS, _DISCRIMINANTS = "owners.thresholds", "owners.discriminants"
# Of each table, in the order of TablePatch's arguments; of all owners together.
_PARTS_OF_VERSION = {1: ("slots", "delta", "owners"), 2: ("slots", "delta", "owners", "rows")}
_PARTS_OF_VERSION[3] = _PARTS_OF_VERSION[2]
_OF_OWNERS = {1: (_THRESHOLDS,), 2: (_THRESHOLDS,), 3: (_THRESHOLDS, _DISCRIMINANTS)}
_DELTA = "delta"
_ALIGNMENT = 8


@dataclass(frozen=True)
class PatchFile:
    """A written patch file: where, how large, and the SHA-256 of its bytes in hex."""

    path: Path
    num_bytes: int
    sha256: str


def sha256_of(payload: bytes) -> str:
    """Return the SHA-256 of `payload` in hex."""
    return hashlib.sha256(payload).hexdigest()


def encode_patch(patch: Patch) -> bytes:
    """Return the bytes of the patch's file; equal patches give equal bytes, however they hold their rows.

    Args:
        patch: The patch.

    Returns:
        A safetensors file.
    """
    tensors: dict[str, NDArray[Any]] = {
        _THRESHOLDS: np.array([owner.threshold for owner in patch.owners], dtype=np.float32),
        _DISCRIMINANTS: discriminants_of(patch.owners),
    }
    for index, table in enumerate(patch.tables):
        smallest = table.with_distinct_rows()
        for part in _PARTS_OF_VERSION[FORMAT_VERSION]:
            value = getattr(smallest, part)
            tensors[f"table{index}.{part}"] = np.ascontiguousarray(value if part == _DELTA else _short(value))
    owners = [{"subject": owner.subject, "fact_ids": list(owner.fact_ids)} for owner in patch.owners]
    metadata = {
        **patch.metadata,
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "owners": json.dumps(owners, ensure_ascii=True, separators=(",", ":")),
    }
    return _with_sorted_header(safetensors.numpy.save(tensors, metadata=metadata))


def write_patch(path: Path, patch: Patch) -> PatchFile:
    """Write the patch to `path`, wholly or not at all.

    Args:
        path: The file to write; its folder exists.
        patch: The patch.

    Returns:
        The file's size and SHA-256.

    Raises:
        OSError: Where the disk refuses.
    """
    payload = encode_patch(patch)
    write_durably(Path(path), payload)
    return PatchFile(Path(path), len(payload), sha256_of(payload))


def read_patch(path: Path, *, sha256: str | None = None, remedy: str | None = None) -> Patch:
    """Read a patch file and check all of it.

    Args:
        path: The file.
        sha256: The SHA-256 that its bytes must have, in hex; None where it is not known (a patch of others).
        remedy: What to tell the user when the file is damaged.

    Returns:
        The patch, with arrays that may be written to.

    Raises:
        StoreCorrupt: Where the file is missing, changed, truncated, or is not a patch.
        StoreTooNew: Where a newer memedit wrote it.
        StoreError: Where the system refuses to read it.
    """
    path = Path(path)
    remedy = remedy or "Get the file again from where it came from, or restore it from a backup."
    payload = read_bytes(path, sha256, remedy)
    found = sha256_of(payload)
    if sha256 is not None and found != sha256:
        raise StoreCorrupt(
            f"patch {path} was changed after it was committed: expected SHA-256 {sha256}, found {found} "
            f"({len(payload)} bytes)",
            remedy=remedy,
        )
    return patch_from_bytes(payload, path, remedy)


def patch_from_bytes(payload: bytes, path: Path, remedy: str) -> Patch:
    """Return the patch in the bytes of a file, checked.

    Args:
        payload: The bytes.
        path: Where they come from, for the message.
        remedy: What to tell the user when they are no patch.

    Raises:
        StoreCorrupt: Where they are truncated, or no patch.
        StoreTooNew: Where a newer memedit wrote them.
    """
    try:
        return _decode(payload, path)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreCorrupt(
            f"{path} is not a patch of memedit: {error} (SHA-256 {sha256_of(payload)})", remedy=remedy
        ) from error


def read_bytes(path: Path, sha256: str | None, remedy: str) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        sha256: The SHA-256 that it should have, for the message, or None.
        remedy: What to tell the user when it is missing.

    Raises:
        StoreCorrupt: Where it is missing.
        StoreError: Where the system refuses to read it.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        expected = f": expected a file with SHA-256 {sha256}, found none" if sha256 else ""
        raise StoreCorrupt(f"patch {path} is missing{expected}", remedy=remedy) from error
    except OSError as error:
        raise StoreError(
            f"patch {path} cannot be read: {error.strerror}",
            remedy="Check the file's permissions and the disk.",
        ) from error


def _decode(payload: bytes, path: Path) -> Patch:
    tensors = safetensors.numpy.load(payload)
    metadata = _metadata(payload, path)
    version = int(metadata["format_version"])
    parts = _PARTS_OF_VERSION[version]
    of_owners = _OF_OWNERS[version]
    num_tables, rest = divmod(len(tensors) - len(of_owners), len(parts))
    expected = {*of_owners} | {f"table{i}.{part}" for i in range(num_tables) for part in parts}
    if rest or set(tensors) != expected:
        raise ValueError(f"its tensors are {sorted(tensors)}, expected {sorted(expected)}")
    if version > 1:
        tensors = {name: _long(value) for name, value in tensors.items()}
    tables = tuple(TablePatch(*(tensors[f"table{i}.{part}"] for part in parts)) for i in range(num_tables))
    entries = json.loads(metadata["owners"])
    without = np.empty((len(entries), 0), np.float16)
    owners = _owners(entries, tensors[_THRESHOLDS], tensors.get(_DISCRIMINANTS, without))
    rest_of_metadata = {key: value for key, value in metadata.items() if key not in RESERVED_METADATA}
    return Patch(tables, owners, rest_of_metadata)


def _metadata(payload: bytes, path: Path) -> dict[str, str]:
    metadata: dict[str, str] = _header(payload).get("__metadata__", {})
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is {metadata.get('format')!r}, expected {FORMAT!r}")
    version = int(metadata["format_version"])
    if version > FORMAT_VERSION:
        raise StoreTooNew(
            f"patch {path} has format version {version}, this memedit reads up to {FORMAT_VERSION}",
            remedy="Update memedit: pip install --upgrade memedit",
        )
    if version not in _PARTS_OF_VERSION:
        raise ValueError(f"its format version is {version}, expected 1 to {FORMAT_VERSION}")
    return metadata


def _short(numbers: NDArray[np.int64]) -> NDArray[Any]:
    """The same numbers in four bytes each, where all of them fit."""
    fits = len(numbers) == 0 or numbers.max() <= np.iinfo(np.int32).max
    return numbers.astype(np.int32) if fits else numbers


def _long(value: NDArray[Any]) -> NDArray[Any]:
    """What `_short` was given; anything else as it is."""
    return value.astype(np.int64) if value.dtype == np.int32 else value


def _owners(
    entries: list[dict[str, Any]], thresholds: NDArray[Any], discriminants: NDArray[Any]
) -> tuple[Owner, ...]:
    if thresholds.dtype != np.float32 or thresholds.shape != (len(entries),):
        raise ValueError(
            f"{_THRESHOLDS} is {thresholds.dtype} {list(thresholds.shape)} for {len(entries)} owners"
        )
    if discriminants.dtype != np.float16 or discriminants.ndim != 2 or len(discriminants) != len(entries):
        raise ValueError(
            f"{_DISCRIMINANTS} is {discriminants.dtype} {list(discriminants.shape)} for {len(entries)} owners"
        )
    for entry in entries:
        if not isinstance(entry["subject"], str) or not all(
            isinstance(fact, str) for fact in entry["fact_ids"]
        ):
            raise ValueError(f"an owner must have a subject and fact ids, got {entry}")
    return tuple(
        Owner(
            entry["subject"],
            float(threshold),
            tuple(entry["fact_ids"]),
            discriminant.astype(DISCRIMINANT_TYPE).tobytes(),
        )
        for entry, threshold, discriminant in zip(entries, thresholds, discriminants, strict=True)
    )


def _header(payload: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    return header


def _with_sorted_header(payload: bytes) -> bytes:
    tensors_at = 8 + int.from_bytes(payload[:8], "little")
    header: Mapping[str, Any] = _header(payload)
    text = json.dumps(header, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text + payload[tensors_at:]
