"""The records of a file, whatever their format: JSON lines, a JSON list, or a table.

What: `RawRecord` and `file_records`, which yields one for each record, with the line on which it begins.
Why: a bad record must be named with its line and must not hide the others.
How: tables by the ending (.csv, .tsv); else the first line tells a list from lines. Lines are read one at a
time with a bound; a list is decoded whole and parsed record by record.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from memedit.errors import FactsError
from memedit.facts.checked_values import kind_of
from memedit.facts.file_lines import (
    BOM,
    MAX_LINE_BYTES,
    decoded,
    decoded_line,
    json_object,
    numbered_lines,
    open_file,
)
from memedit.facts.formats.json_list import LIST_KEYS, list_records

__all__ = ["MAX_LIST_BYTES", "RawRecord", "file_records"]

MAX_LIST_BYTES = 512 * 2**20
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class RawRecord:
    """One record as the file has it.

    Args:
        number: Its number in the file, from 1.
        line: The line on which it begins; None where the source has no lines.
        value: The record; None when it cannot be read.
        error: Why it cannot be read.
        is_numbered: Whether people find it by its number (a list) rather than by its line.
    """

    number: int
    line: int | None
    value: Mapping[str, Any] | None
    error: FactsError | None = None
    is_numbered: bool = False


def file_records(path: Path) -> Iterator[RawRecord]:
    """The records of a file in their order.

    Args:
        path: A .csv or .tsv table with a header; or JSON lines, a JSON list of objects, or an object that
            holds such a list.

    Yields:
        Each record; one that cannot be read has an error.

    Raises:
        FactsError: When the file, or what follows in it, cannot be read at all; with the line.
    """
    with open_file(path) as stream:
        delimiter = _DELIMITERS.get(path.suffix.casefold())
        if delimiter is not None:
            yield from _table(stream, delimiter)
            return
        start, first = _first_line(stream)
        if _is_list(start, path):
            yield from _list(start, first, stream)
        else:
            yield from _json_lines(start, first, stream)


def _first_line(stream: BinaryIO) -> tuple[bytes, int]:
    """The first line that is not blank, and its number; empty at the end of the file."""
    for number, line in numbered_lines(stream):
        if line.removeprefix(BOM).strip():
            return line, number
    return b"", 1


def _is_list(start: bytes, path: Path) -> bool:
    """Whether the file is one JSON value: a list, or an object over several lines or alone in its file."""
    head = start.removeprefix(BOM).lstrip()
    if head.startswith(b"["):
        return True
    if not head.startswith(b"{") or path.suffix.casefold() in _LINES:
        return False
    try:
        record = json.loads(head)
    except (ValueError, RecursionError):
        # An object that ends on another line, or a bad line of JSON: only the latter ends with a brace.
        return not head.rstrip().endswith(b"}")
    return any(isinstance(record.get(key), list) for key in LIST_KEYS)


def _json_lines(start: bytes, first: int, stream: BinaryIO) -> Iterator[RawRecord]:
    later = numbered_lines(stream, first=first + 1)
    numbered = itertools.chain([(first, start)] if start else [], later)
    number = 0
    for line, raw in numbered:
        if not raw.strip():
            continue
        number += 1
        if len(raw.rstrip(b"\r\n")) > MAX_LINE_BYTES:
            decoded_line(raw, line)
        try:
            record = RawRecord(number, line, json_object(decoded_line(raw, line).strip()))
        except FactsError as error:
            record = RawRecord(number, line, None, error)
        yield record


def _list(start: bytes, first: int, stream: BinaryIO) -> Iterator[RawRecord]:
    rest = stream.read(MAX_LIST_BYTES + 1)
    if len(start) + len(rest) > MAX_LIST_BYTES:
        raise FactsError(
            f"the list is larger than {MAX_LIST_BYTES:,} bytes",
            line=first,
            remedy="Write it as JSON lines, one object a line: that is read piece by piece.",
        )
    text = decoded(start + rest, first)
    for number, (line, value, error) in enumerate(list_records(text, first), start=1):
        if error is None and not isinstance(value, Mapping):
            error = FactsError(f"expected an object, got {kind_of(value)}", line=line)
        yield RawRecord(number, line, None if error else value, error, is_numbered=True)


def _table(stream: BinaryIO, delimiter: str) -> Iterator[RawRecord]:
    texts = (decoded_line(raw, line) for line, raw in numbered_lines(stream))
    rows = csv.reader(texts, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise FactsError(
                f"not a table: {error}; reading stopped here",
                line=line,
                remedy="Check the quotes around the cells of this row.",
            ) from error
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        if header is None:
            header = _header(row, line)
            continue
        number += 1
        yield _row(number, line, header, row)


def _header(row: list[str], line: int) -> list[str]:
    names = [name.strip() for name in row]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise FactsError(f"the column {double!r} is there twice", line=line, remedy="Rename one of them.")
    return names


def _row(number: int, line: int, header: list[str], row: list[str]) -> RawRecord:
    if len(row) != len(header):
        error = FactsError(f"has {len(row)} cells, but the header has {len(header)}", line=line)
        return RawRecord(number, line, None, error)
    # An empty cell is how a table writes null.
    record = {name: cell or None for name, cell in zip(header, row, strict=True)}
    return RawRecord(number, line, record)
