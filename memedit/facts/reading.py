"""Reading facts: a JSONL file, or records that a program already holds.

What: `read_facts` (the facts), `read_facts_file` (the facts and what was merged), `facts_from_records`.
Why: a run takes minutes, so everything that is wrong with the input is said before it starts, for all lines
at once, as `file:line: what is wrong` with what to do about it.
How: bytes are read line by line with a bound on the line, so that a broken file of any size cannot fill the
memory; then decoded (UTF-8, with or without a byte order mark, any line ends), parsed, checked alone and
together.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from memedit.errors import FactsError
from memedit.facts.conflicts import Merged, settle
from memedit.facts.fact import Fact
from memedit.facts.schema import EXAMPLE, parse_fact, shown

__all__ = ["MAX_ERRORS", "MAX_LINE_BYTES", "FactsFile", "facts_from_records", "read_facts", "read_facts_file"]

MAX_LINE_BYTES = 4 * 2**20
MAX_ERRORS = 20
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class FactsFile:
    """What a facts file holds.

    Args:
        path: Where it was read.
        facts: Its facts, in the order of their first lines.
        merged: The lines that repeat a fact, each with the line that it was merged into.
    """

    path: Path
    facts: tuple[Fact, ...]
    merged: tuple[Merged, ...]


def _lines(stream: BinaryIO, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Numbered lines; after one that is longer than the bound, reading stops."""
    number = 0
    while line := stream.readline(max_line_bytes + 2):
        number += 1
        yield number, line
        if len(line.rstrip(b"\r\n")) > max_line_bytes:
            return


def _decode(raw: bytes, number: int, max_line_bytes: int) -> str:
    if len(raw.rstrip(b"\r\n")) > max_line_bytes:
        raise FactsError(
            f"the line is longer than {max_line_bytes:,} bytes; reading stopped here",
            line=number,
            remedy="Each fact is one line of JSON: check that the file has line ends and is a facts file.",
        )
    if number == 1 and raw.startswith(_UTF16_BOMS):
        raise FactsError("the file is UTF-16", line=number, remedy="Save it as UTF-8.")
    try:
        return (raw.removeprefix(_BOM) if number == 1 else raw).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise FactsError(
            f"not UTF-8: byte 0x{raw[error.start]:02X} at position {error.start + 1} cannot be decoded",
            line=number,
            remedy="Save the file as UTF-8.",
        ) from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in keys if keys.count(key) > 1)
        raise FactsError(f"the key {shown(double)} is there twice", remedy="Keep one of them.")
    return record


def _parse_json(text: str) -> Mapping[str, Any]:
    remedy = f"Each line must be one JSON object, for example {EXAMPLE}."
    if text.startswith("["):
        remedy = (
            f"This looks like a JSON list: write one object a line, no brackets and commas around. {remedy}"
        )
    elif text == "{":
        remedy = f"This looks like JSON over several lines: write each object in one line. {remedy}"
    try:
        record = json.loads(text, object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        raise FactsError(f"not JSON: {error.msg} at column {error.colno}", remedy=remedy) from error
    except RecursionError as error:
        raise FactsError("not a fact: brackets nested too deep", remedy=remedy) from error
    except FactsError:
        raise
    except ValueError as error:
        raise FactsError(f"not JSON: {error}", remedy=remedy) from error
    if not isinstance(record, dict):
        raise FactsError(f"not a JSON object: {shown(text)}", remedy=remedy)
    return record


def _located(error: FactsError, path: Path | None, line: int | None) -> FactsError:
    """The error with the place of the fault in front of its message."""
    place = (
        f"{path}:{line}" if path is not None and line is not None else f"fact {line}" if line else f"{path}"
    )
    return FactsError(f"{place}: {error.message}", path=path, line=line, remedy=error.remedy)


def _raise(errors: Sequence[FactsError], path: Path | None) -> None:
    """Raises one error for all of them; does nothing when there are none."""
    located = [
        _located(error, path, error.line) for error in sorted(errors, key=lambda error: error.line or 0)
    ]
    if not located:
        return
    if len(located) == 1:
        raise located[0]
    shown_errors = located[:MAX_ERRORS]
    more = "at least " if len(located) >= MAX_ERRORS else ""
    body = [
        f"{error.message}\n    {error.remedy}" if error.remedy else error.message for error in shown_errors
    ]
    raise FactsError(
        "\n".join([f"{path or 'the facts'}: {more}{len(shown_errors)} problems", *body]),
        path=path,
        line=shown_errors[0].line,
        remedy="Mend these and run it again; nothing was changed.",
    )


def _settled(
    facts: Sequence[Fact], errors: list[FactsError], path: Path | None
) -> tuple[list[Fact], list[Merged]]:
    unique, merged, disagreements = settle(facts)
    _raise([*errors, *disagreements], path)
    return unique, merged


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"Did you mean {path.parent / near[0]}?" if near else "Check the path."
        raise FactsError(f"facts file {path} does not exist", path=path, remedy=hint) from error
    except IsADirectoryError as error:
        raise FactsError(
            f"{path} is a directory, expected a facts file",
            path=path,
            remedy=f"Name a file, such as {path / 'facts.jsonl'}.",
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise FactsError(
            f"facts file {path} cannot be read: {reason}", path=path, remedy="Check its rights."
        ) from error


def read_facts_file(path: str | os.PathLike[str], *, max_line_bytes: int = MAX_LINE_BYTES) -> FactsFile:
    """The facts of a JSONL file, and what was merged in it.

    Args:
        path: UTF-8 text, one JSON object a line; empty lines are skipped.
        max_line_bytes: A longer line is refused without being read whole.

    Returns:
        The facts in the order of the file, each with its line.

    Raises:
        FactsError: When the file or any line of it cannot be used: all problems (up to `MAX_ERRORS`) in one
            message, each with file and line.
    """
    path = Path(path)
    facts: list[Fact] = []
    errors: list[FactsError] = []
    with _open(path) as stream:
        for number, raw in _lines(stream, max_line_bytes):
            try:
                text = _decode(raw, number, max_line_bytes)
                if text:
                    facts.append(parse_fact(_parse_json(text), line=number))
            except FactsError as error:
                errors.append(FactsError(error.message, line=number, remedy=error.remedy))
            if len(errors) >= MAX_ERRORS:
                break
    if not facts and not errors:
        raise FactsError(
            f"facts file {path} is empty", path=path, remedy=f"Write one fact a line, for example {EXAMPLE}."
        )
    unique, merged = _settled(facts, errors, path)
    return FactsFile(path, tuple(unique), tuple(merged))


def read_facts(path: str | os.PathLike[str], *, max_line_bytes: int = MAX_LINE_BYTES) -> list[Fact]:
    """The facts of a JSONL file; repeated facts are merged into the first of them.

    Args:
        path: UTF-8 text, one JSON object a line; empty lines are skipped.
        max_line_bytes: A longer line is refused without being read whole.

    Returns:
        The facts in the order of the file, each with its line.

    Raises:
        FactsError: As `read_facts_file`.
    """
    return list(read_facts_file(path, max_line_bytes=max_line_bytes).facts)


def _from_record(record: object, number: int) -> Fact:
    content = record.to_json() if isinstance(record, Fact) else record
    if not isinstance(content, Mapping):
        raise FactsError(
            f"expected a mapping with prompt and target, got {type(record).__name__}",
            remedy=f"For example {EXAMPLE}.",
        )
    return parse_fact(content, line=number)


def facts_from_records(records: Iterable[Mapping[str, Any] | Fact]) -> list[Fact]:
    """The facts that a program gives as mappings with the keys of a facts file.

    Args:
        records: Mappings, or facts; numbered from 1 in errors.

    Returns:
        The facts, checked alone and together as those of a file are; repeated facts are merged.

    Raises:
        FactsError: All problems (up to `MAX_ERRORS`) in one message; also when there are no records.
    """
    facts: list[Fact] = []
    errors: list[FactsError] = []
    number = 0
    for number, record in enumerate(records, start=1):
        try:
            facts.append(_from_record(record, number))
        except FactsError as error:
            errors.append(FactsError(error.message, line=number, remedy=error.remedy))
        if len(errors) >= MAX_ERRORS:
            break
    if number == 0:
        raise FactsError("no facts were given", remedy=f"Give at least one, for example {EXAMPLE}.")
    return _settled(facts, errors, None)[0]
