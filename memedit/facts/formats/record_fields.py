"""The fields of one record of a dataset, checked as they are taken.

What: `RecordFields`: texts, answers in any nesting, inner objects, each by name or by several possible names.
Why: a bad record must be named with the field, what it holds and what was expected, in every format alike.
How: what is null, NaN (as pandas writes a gap) or absent counts as missing; numbers are taken as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from memedit.errors import FactsError
from memedit.facts.checked_values import checked_text, kind_of

__all__ = ["RecordFields", "is_missing"]


def is_missing(value: object) -> bool:
    """Whether a value is null, or NaN, which stands for null in files that went through pandas."""
    return value is None or (isinstance(value, float) and value != value)


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _flat(value: object) -> Iterator[object]:
    """The texts of lists in lists, in their order, without what is missing or blank."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list | tuple):
            waiting.extend(reversed(item))
        elif not is_missing(item) and item not in ("", " "):
            yield item


class RecordFields:
    """One object of a dataset.

    Args:
        record: The object.
        where: What stands in front of its fields in messages: "requested_rewrite.".
    """

    def __init__(self, record: Mapping[str, Any], where: str = "") -> None:
        self.record = record
        self.where = where

    def path(self, *names: str) -> str:
        """The name of a field in messages: the one that is there, else all that could be."""
        there = [name for name in names if name in self.record]
        return self.where + (there[0] if there else " or ".join(names))

    def get(self, *names: str) -> Any:
        """The value of the first of the names that has one, or None."""
        for name in names:
            value = self.record.get(name)
            if not is_missing(value):
                return value
        return None

    def _needed(self, names: tuple[str, ...], expected: str) -> Any:
        value = self.get(*names)
        if value is None:
            path = self.path(*names)
            state = "is null" if any(name in self.record for name in names) else "is missing"
            raise FactsError(f"{path} {state}, expected {expected}", field=path)
        return value

    def text(self, *names: str, one_line: bool = False) -> str:
        """A text that must be there.

        Args:
            names: The names it may have.
            one_line: Refuse line breaks.

        Raises:
            FactsError: When it is missing, empty or no text.
        """
        value = self._needed(names, "a text")
        path = next(self.where + name for name in names if self.record.get(name) is value)
        return checked_text(_as_text(value), path, one_line=one_line)

    def optional_text(self, *names: str, one_line: bool = False) -> str | None:
        """A text, or None where it is missing or blank.

        Args:
            names: The names it may have.
            one_line: Refuse line breaks.

        Raises:
            FactsError: When it is no text.
        """
        value = self.get(*names)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        return self.text(*names, one_line=one_line)

    def answers(self, *names: str) -> tuple[str, ...]:
        """A text, a list of texts, or lists in lists of them: all texts in order, without doubles or blanks.

        Args:
            names: The names that the field may have.

        Returns:
            The texts, each in one line; empty where there are none.

        Raises:
            FactsError: When something in it is no text.
        """
        path = self.path(*names)
        found: dict[str, None] = {}
        for item in _flat(self.get(*names)):
            if isinstance(item, Mapping | bool):
                raise FactsError(
                    f"{path} holds {kind_of(item)}, expected a text or lists of texts", field=path
                )
            text = _as_text(item)
            if isinstance(text, str) and not text.strip():
                continue
            found[" ".join(checked_text(text, path).split())] = None
        return tuple(found)

    def needed_answers(self, *names: str) -> tuple[str, ...]:
        """As `answers`, but there must be one.

        Raises:
            FactsError: When there is none, or something in it is no text.
        """
        found = self.answers(*names)
        if not found:
            path = self.path(*names)
            state = "is missing" if self.get(*names) is None else "is empty"
            raise FactsError(f"{path} {state}, expected at least one answer", field=path)
        return found

    def inner(self, *names: str) -> RecordFields:
        """The fields of an object inside.

        Raises:
            FactsError: When it is missing or no object.
        """
        value = self._needed(names, "an object")
        path = self.path(*names)
        if not isinstance(value, Mapping):
            raise FactsError(f"{path} must be an object, got {kind_of(value)}", field=path)
        return RecordFields(value, f"{path}.")

    def inners(self, name: str) -> list[RecordFields]:
        """The objects of a list, or a single object; empty where there is nothing in the field.

        Raises:
            FactsError: When it holds anything else.
        """
        value = self.get(name)
        items = [] if value in (None, {}) else [value] if isinstance(value, Mapping) else value
        if not isinstance(items, list | tuple):
            raise FactsError(
                f"{self.path(name)} must be a list of objects, got {kind_of(value)}", field=self.path(name)
            )
        found = []
        for number, item in enumerate(items):
            path = f"{self.path(name)}[{number}]"
            if not isinstance(item, Mapping):
                raise FactsError(f"{path} must be an object, got {kind_of(item)}", field=path)
            found.append(RecordFields(item, f"{path}."))
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts without doubles, line breaks kept; empty where the field is missing.

        Raises:
            FactsError: When it is no list, or something in it is no text.
        """
        value = self.get(name)
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            raise FactsError(
                f"{self.path(name)} must be a list of texts, got {kind_of(value)}", field=self.path(name)
            )
        found = (checked_text(item, f"{self.path(name)}[{number}]") for number, item in enumerate(value))
        return tuple(dict.fromkeys(found))
