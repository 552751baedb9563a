"""What tomllib leaves out: where a table stands in the text, and how a value is written.

What: `table_lines` and `key_line` (for errors that name a line), `toml_pair`, `toml_table`, `toml_value`.
Why: "answers is empty" helps nobody in a file of five hundred items; a small writer spares a dependency.
How: one pass over the lines that skips strings and comments; a text that is no TOML is refused by tomllib
before anybody asks here. Values are written on one line each, so that a changed value is a changed line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["key_line", "table_lines", "toml_pair", "toml_table", "toml_value"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
# A delimiter of a string over several lines, a string in one line, a comment, or anything else.
_TOKEN = re.compile(r'"""|\'\'\'|"(?:\\.|[^"\\])*"|\'[^\']*\'|\#.*|[^"\'#]+|.')
_ENDS = {'"""': re.compile(r'(?:\\.|[^\\])*?"""', re.DOTALL), "'''": re.compile(r".*?'''", re.DOTALL)}


def table_lines(lines: Sequence[str], name: str) -> list[int]:
    """Return the lines on which the tables of an array begin.

    Args:
        lines: The text's lines.
        name: The array's name, such as "item" for `[[item]]`.
    Returns:
        Line numbers, counted from 1.
    """
    header = re.compile(rf'\s*\[\[\s*(?:{name}|"{name}"|\'{name}\')\s*\]\]')
    return [number for number, line in _outside_strings(lines, 1, len(lines) + 1) if header.match(line)]


def key_line(lines: Sequence[str], start: int, end: int, key: str) -> int:
    """Return the line of a table on which a key stands.

    Args:
        lines: The text's lines.
        start: The table's first line, counted from 1.
        end: The line behind its last.
        key: The key.
    Returns:
        The line, or `start` where the key is not there.
    """
    pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]")
    found = (number for number, line in _outside_strings(lines, start, end) if pattern.match(line))
    return next(found, start)


def toml_table(header: str, values: Mapping[str, object], notes: Mapping[str, str] | None = None) -> str:
    """Return a table: its header line, then one line for each value.

    Args:
        header: The header with its brackets, or an empty text for the top of a file.
        values: The values: texts, numbers, true and false, lists and mappings of these.
        notes: Comments for some of the keys.
    Returns:
        Lines, each with its end.
    """
    lines = [header] if header else []
    for key, value in values.items():
        note = (notes or {}).get(key)
        lines.append(toml_pair(key, value) + (f"  # {note}" if note else ""))
    return "".join(f"{line}\n" for line in lines)


def toml_pair(key: str, value: object) -> str:
    """Return a key with its value, on one line."""
    return f"{key if _BARE.fullmatch(key) else toml_value(key)} = {toml_value(value)}"


def toml_value(value: object) -> str:
    """Return a value on one line.

    Args:
        value: A text, number, boolean, list or mapping. What cannot be seen in a text is escaped, so that a
            review shows what is there; halves of surrogate pairs, which UTF-8 cannot hold, become U+FFFD.
    """
    if isinstance(value, Mapping):
        return f"{{ {', '.join(toml_pair(key, each) for key, each in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    # Escapes of JSON are escapes of TOML.
    written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return "".join(char if char.isprintable() else _escaped(ord(char)) for char in written)


def _escaped(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        return "\\ufffd"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _outside_strings(lines: Sequence[str], start: int, end: int) -> Iterator[tuple[int, str]]:
    """The lines that do not begin within a string, numbered from 1; the one at `start` does not."""
    open_string = None
    for number, line in enumerate(lines[start - 1 : end - 1], start=start):
        if open_string is None:
            yield number, line
        open_string = _open_string(line, open_string)


def _open_string(line: str, open_string: str | None) -> str | None:
    """The delimiter of the string that is open behind the line, given the one open in front of it."""
    place = 0
    while place < len(line):
        if open_string is not None:
            end = _ENDS[open_string].match(line, place)
            if end is None:
                return open_string
            # Up to two more quotes belong to the string: what closes is the last three.
            place, open_string = _behind_quotes(line, end.end(), open_string[0]), None
            continue
        token = _TOKEN.match(line, place)
        assert token is not None
        place = token.end()
        if token.group() in _ENDS:
            open_string = token.group()
    return open_string


def _behind_quotes(line: str, place: int, quote: str) -> int:
    for _ in range(2):
        if line[place : place + 1] == quote:
            place += 1
    return place
