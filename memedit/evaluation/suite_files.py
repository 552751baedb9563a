"""Suite files: knowledge.toml, which people read and edit, or JSONL, which programs write.

What: `read_suite`, `write_suite`, `add_items` and `write_baseline`.
Why: a suite is committed and reviewed, so it is plain text: one line for a baseline, the same bytes for the
same suite, and what people wrote around it (comments, order) stays when a baseline is renewed.
How: suite_toml.py for TOML; in JSONL the first line is the header, every other an item. A changed file is
written beside the old one and renamed.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memedit.errors import SuiteError
from memedit.evaluation.suite_fields import Record, header_record, item_record, suite_from_records
from memedit.evaluation.suite_toml import parse_toml, toml_of, with_baseline, with_items
from memedit.evaluation.suites import Suite, SuiteItem

__all__ = ["DEFAULT_SUITE", "add_items", "read_suite", "write_baseline", "write_suite"]

DEFAULT_SUITE = "knowledge.toml"
"""The file that `memedit test` and pytest look for."""


def read_suite(path: str | os.PathLike[str]) -> Suite:
    """Read a suite.

    Args:
        path: A TOML file, or a JSONL file whose name ends in .jsonl.
    Raises:
        SuiteError: the file cannot be read, or is wrong: up to twenty problems, each with file and line.
    """
    path = Path(path)
    return _parsed(_text(path), path)


def write_suite(suite: Suite, path: str | os.PathLike[str]) -> None:
    """Write a suite, in place of any file that is there.

    Args:
        suite: The suite.
        path: Where to; JSONL where the name ends in .jsonl, else TOML.
    Raises:
        SuiteError: the system refuses.
    """
    path = Path(path)
    if _is_jsonl(path):
        records = [header_record(suite), *map(item_record, suite.items)]
        _replace(path, "".join(map(_json_line, records)))
    else:
        _replace(path, toml_of(suite))


def add_items(path: str | os.PathLike[str], items: Sequence[SuiteItem]) -> Suite:
    """Append items to a suite file, and keep everything that is in it.

    Args:
        path: The file.
        items: What it gets; ids and prompts must be new to it.
    Returns:
        The suite with them.
    Raises:
        SuiteError: the file is wrong, or an item is in it already.
    """
    path = Path(path)
    text = _text(path)
    suite = _parsed(text, path)
    wanted = replace(suite, items=(*suite.items, *items))
    if _is_jsonl(path):
        write_suite(wanted, path)
    else:
        _replace_checked(path, with_items(text, items), wanted)
    return wanted


def write_baseline(path: str | os.PathLike[str], suite: Suite) -> None:
    """Renew the baseline in a suite file, and keep everything else in it.

    Args:
        path: The file.
        suite: What it holds, with the new baseline and model.
    Raises:
        SuiteError: the file cannot be read or written.
    """
    path = Path(path)
    if _is_jsonl(path):
        write_suite(suite, path)
    else:
        _replace_checked(path, with_baseline(_text(path), suite), suite)


def _replace_checked(path: Path, content: str, wanted: Suite) -> None:
    """Write a text that was changed in place, or the suite from scratch where that went wrong."""
    try:
        is_right = _records(_parsed(content, path)) == _records(wanted)
    except SuiteError:
        is_right = False
    if is_right:
        _replace(path, content)
    else:
        write_suite(wanted, path)


def _records(suite: Suite) -> list[dict[str, Any]]:
    return [header_record(suite), *map(item_record, suite.items)]


def _is_jsonl(path: Path) -> bool:
    return path.suffix == ".jsonl"


def _parsed(text: str, path: Path) -> Suite:
    return _parse_jsonl(text, path) if _is_jsonl(path) else parse_toml(text, path)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError as error:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"Did you mean {path.parent / near[0]}?" if near else "`memedit suite build` makes one."
        raise SuiteError(f"suite {path} does not exist", path=path, remedy=hint) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SuiteError(
            f"{path}:{line}: not UTF-8: byte 0x{error.object[error.start]:02X} cannot be decoded",
            path=path,
            line=line,
            remedy="Save the file as UTF-8.",
        ) from error
    except OSError as error:
        raise SuiteError(
            f"suite {path} cannot be read: {error.strerror or error}", path=path, remedy="Check its rights."
        ) from error


def _parse_jsonl(text: str, path: Path) -> Suite:
    # Not splitlines(): a text may hold the other line separators.
    numbered = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    records = [_json_record(line, number, path) for number, line in numbered]
    header = records[0] if records else Record({}, lambda _: 1)
    return suite_from_records(header, records[1:], path)


def _json_record(line: str, number: int, path: Path) -> Record:
    try:
        content = json.loads(line, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise SuiteError(
            f"{path}:{number}: not JSON: {error}",
            path=path,
            line=number,
            remedy="Each line is one JSON object: the header first, then one item a line.",
        ) from error
    if not isinstance(content, dict):
        raise SuiteError(f"{path}:{number}: not a JSON object", path=path, line=number)
    return Record(content, lambda _: number)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return record


def _json_line(record: Mapping[str, Any]) -> str:
    # ASCII: half a surrogate pair, which UTF-8 could not hold, survives as its escape.
    return json.dumps(record, allow_nan=False) + "\n"


def _replace(path: Path, content: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(content.encode("utf-8"))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SuiteError(
            f"suite {path} cannot be written: {error.strerror or error}",
            path=path,
            remedy="Check that its folder is there and can be written to.",
        ) from error
