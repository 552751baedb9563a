"""A JSON list of records, parsed one record at a time, so that each has its line.

What: `list_records`: the elements of a list, or of the list inside an object that describes it.
Why: json.loads says nothing about where a record stood, and a key that is there twice in one record must not
hide the others.
How: the decoder of the standard library at each element; lines are counted between them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from memedit.errors import FactsError
from memedit.facts.file_lines import unique_keys

__all__ = ["LIST_KEYS", "list_records"]

LIST_KEYS = ("example", "examples", "Data", "data", "records", "rows")
"""The keys under which datasets put their records, beside a description of themselves."""

_BLANK = re.compile(r"[ \t\r\n]*")
_STRICT = json.JSONDecoder(object_pairs_hook=unique_keys)
_PLAIN = json.JSONDecoder()


class _Text:
    """A text with a position that only moves forward, and the line of it."""

    def __init__(self, text: str, first: int) -> None:
        self.text = text
        self.position = 0
        self._first = first
        self._counted = 0
        self._line = first

    @property
    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line

    def skip(self) -> str:
        """The next character that is not blank; empty at the end."""
        match = _BLANK.match(self.text, self.position)
        self.position = match.end() if match else self.position
        return self.text[self.position : self.position + 1]

    def take(self, character: str, what: str) -> None:
        found = self.skip()
        if found != character:
            raise self.fault(f"expected {what}, got {found!r}" if found else f"ends before {what}")
        self.position += 1

    def fault(self, message: str) -> FactsError:
        return FactsError(
            f"not JSON: {message}; reading stopped here",
            line=self.line,
            remedy="Mend the file here; what follows cannot be read without it.",
        )

    def value(self, decoder: json.JSONDecoder) -> Any:
        try:
            value, end = decoder.raw_decode(self.text, self.position)
        except json.JSONDecodeError as error:
            self.position = max(self.position, error.pos)
            column = error.pos - self.text.rfind("\n", 0, error.pos)
            raise self.fault(f"{error.msg} at column {column}") from error
        except RecursionError as error:
            raise self.fault("brackets nested too deep") from error
        self.position = end
        return value


def _elements(text: _Text) -> Iterator[tuple[int, Any, FactsError | None]]:
    text.take("[", "a list")
    if text.skip() == "]":
        text.position += 1
        return
    while True:
        text.skip()
        line, start = text.line, text.position
        try:
            value, problem = text.value(_STRICT), None
        except FactsError as error:
            if error.line is not None:
                raise
            text.position = start
            value, problem = text.value(_PLAIN), FactsError(error.message, line=line, remedy=error.remedy)
        yield line, value, problem
        if text.skip() == "]":
            text.position += 1
            return
        text.take(",", "a comma or the end of the list")


def _list_start(text: _Text) -> int | None:
    """Where the list of records begins in an object that describes it; None in any other object."""
    text.take("{", "an object")
    while text.skip() != "}":
        key = text.value(_PLAIN)
        text.take(":", "a colon")
        text.skip()
        start = text.position
        value = text.value(_PLAIN)
        if key in LIST_KEYS and isinstance(value, list) and value and isinstance(value[0], dict):
            return start
        if text.skip() != ",":
            break
        text.position += 1
    return None


def list_records(content: str, first: int = 1) -> Iterator[tuple[int, Any, FactsError | None]]:
    """The elements of a JSON list, with the lines on which they begin.

    Args:
        content: A list; an object with a list of objects under one of `LIST_KEYS`; or one object, which is
            then the only element.
        first: The number of the content's first line.

    Yields:
        (line, element, None), or an error for an element with a key that is there twice.

    Raises:
        FactsError: Where the content is no JSON, with the line.
    """
    text = _Text(content, first)
    if text.skip() != "{":
        yield from _elements(text)
        if text.skip():
            raise text.fault("the list has ended here")
        return
    start = _list_start(_Text(content, first))
    if start is None:
        line = text.line
        value = text.value(_STRICT)
        if text.skip():
            raise text.fault("the object has ended here")
        yield line, value, None
        return
    text.position = start
    yield from _elements(text)
