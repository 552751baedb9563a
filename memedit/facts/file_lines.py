"""Files of records as numbered lines: bytes in, decoded text and JSON objects out.

What: `open_file`, `numbered_lines`, `decoded_line`, `json_object` and the checks behind them.
Why: a file that a user names can be anything: another encoding, one endless line, a folder. Each is said with
its line and what to do about it, and none of them fills the memory.
How: bytes are read line by line with a bound on the line, then decoded (UTF-8, with or without a byte order
mark, any line ends) and parsed one at a time.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from memedit.errors import FactsError
from memedit.facts.checked_values import shown
from memedit.facts.schema import EXAMPLE

__all__ = [
    "BOM",
    "MAX_LINE_BYTES",
    "decoded",
    "decoded_line",
    "json_object",
    "numbered_lines",
    "open_file",
    "unique_keys",
]

MAX_LINE_BYTES = 4 * 2**20
BOM = b"\xef\xbb\xbf"
_UTF16BOMS = (b"\xff\xfe", b"\xfe\xff")


def open_file(path: Path) -> BinaryIO:
    """A file opened for reading bytes.

    Args:
        path: The file; may be a pipe.

    Returns:
        The open stream.

    Raises:
        FactsError: When there is no such file, it is a directory, or it cannot be read.
    """
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


def numbered_lines(
    stream: BinaryIO, max_line_bytes: int = MAX_LINE_BYTES, *, first: int = 1
) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; after one that is longer than the bound, reading stops.

    Args:
        stream: Where to read.
        max_line_bytes: The bound, without the line's end; `decoded_line` refuses what is longer.
        first: The number of the stream's next line.

    Yields:
        (number, bytes with their line end).
    """
    number = first - 1
    while line := stream.readline(max_line_bytes + 2):
        number += 1
        yield number, line
        if len(line.rstrip(b"\r\n")) > max_line_bytes:
            return


def decoded(raw: bytes, first: int = 1) -> str:
    """The text of some bytes of a file.

    Args:
        raw: UTF-8; a byte order mark is dropped at the file's beginning.
        first: The number of their first line in the file.

    Returns:
        The text, line ends included.

    Raises:
        FactsError: When the bytes are UTF-16 or no UTF-8 at all, with the line at fault.
    """
    if first == 1 and raw.startswith(_UTF16BOMS):
        raise FactsError("the file is UTF-16", line=first, remedy="Save it as UTF-8.")
    raw = raw.removeprefix(BOM) if first == 1 else raw
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line_start = raw.rfind(b"\n", 0, error.start) + 1
        raise FactsError(
            f"not UTF-8: byte 0x{raw[error.start]:02X} at position {error.start - line_start + 1} cannot be"
            " decoded",
            line=first + raw.count(b"\n", 0, error.start),
            remedy="Save the file as UTF-8.",
        ) from error


def decoded_line(raw: bytes, number: int, max_line_bytes: int = MAX_LINE_BYTES) -> str:
    """The text of one line.

    Args:
        raw: As `numbered_lines` gave it.
        number: Its number.
        max_line_bytes: The bound that it was read with.

    Returns:
        The text, with its line end.

    Raises:
        FactsError: When the line is longer than the bound or cannot be decoded.
    """
    if len(raw.rstrip(b"\r\n")) > max_line_bytes:
        raise FactsError(
            f"the line is longer than {max_line_bytes:,} bytes; reading stopped here",
            line=number,
            remedy="Each fact is one line of JSON: check that the file has line ends and is a facts file.",
        )
    return decoded(raw, number)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are all different: an `object_pairs_hook`.

    Raises:
        FactsError: When a key is there twice, of which JSON would silently keep the last.
    """
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in keys if keys.count(key) > 1)
        raise FactsError(f"the key {shown(double)} is there twice", remedy="Keep one of them.")
    return record


def json_object(text: str) -> dict[str, Any]:
    """The JSON object of one line.

    Args:
        text: The line, stripped.

    Returns:
        The object.

    Raises:
        FactsError: When the line is something else.
    """
    remedy = f"Each line must be one JSON object, for example {EXAMPLE}."
    if text.startswith("["):
        remedy = (
            f"This looks like a JSON list: write one object a line, no brackets and commas around. {remedy}"
        )
    elif text == "{":
        remedy = f"This looks like JSON over several lines: write each object in one line. {remedy}"
    try:
        record = json.loads(text, object_pairs_hook=unique_keys)
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
