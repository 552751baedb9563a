"""Suites as TOML: read with the line of every item, written, and edited without losing what people wrote.

What: `parse_toml`, `toml_of`, and `with_items` and `with_baseline`, which change a text in place.
Why: a person's comments and order must survive the renewal of a baseline.
How: tomllib (tomli on Python 3.10) reads; a change in place is a change of lines, and whoever asks for it
checks what it made by reading it again.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memedit.errors import SuiteError
from memedit.evaluation.suite_fields import Record, header_record, item_record, suite_from_records
from memedit.evaluation.suites import Suite, SuiteItem
from memedit.evaluation.toml_text import key_line, table_lines, toml_pair, toml_table

__all__ = ["parse_toml", "toml_of", "with_baseline", "with_items"]

_HEAD = """\
# What this model must keep knowing: `memedit test` asks it all again and compares with each baseline.
# docs/testing-knowledge.md of memedit describes this file. Edit it freely; comments stay.
"""
_NOTES = {
    "collect": "one test for each fact, or for each group",
    "max_loss": "share of the right answers that may be lost; more, and beyond chance, fails",
}
_MODEL = re.compile(r"\s*\[\s*model\s*\]")


def parse_toml(text: str, path: Path) -> Suite:
    """Read a suite from TOML.

    Args:
        text: The text, lines ending in newlines.
        path: Its file, for errors.
    Raises:
        SuiteError: it is no TOML or no suite; up to twenty problems, each with file and line.
    """
    content = _content(text, path)
    lines = text.split("\n")
    items = content.get("item", [])
    header = Record(content, lambda key: key_line(lines, 1, len(lines) + 1, key) if key else 1)
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        line = header.line_of("item")
        raise SuiteError(
            f"{path}:{line}: item must be tables, each below a line [[item]]", path=path, line=line
        )
    starts = table_lines(lines, "item")
    if len(starts) != len(items):
        # Written in another way, such as a list of inline tables: no item has a line of its own.
        return suite_from_records(header, [Record(item, _no_line) for item in items], path)
    ends = [*starts[1:], *([len(lines) + 1] if starts else [])]
    records = [
        Record(item, _lines_within(lines, start, end))
        for item, start, end in zip(items, starts, ends, strict=True)
    ]
    return suite_from_records(header, records, path)


def toml_of(suite: Suite) -> str:
    """Return a suite as TOML: the same text for the same suite."""
    header = header_record(suite)
    limits = dict(header.pop("limits"))
    groups, model = limits.pop("groups", None), header.pop("model", None)
    parts = [_HEAD + toml_table("", header, _NOTES), toml_table("[limits]", limits, _NOTES)]
    if groups:
        parts.append(toml_table("[limits.groups]", groups))
    if model:
        parts.append(toml_table("[model]", model))
    return "\n".join([*parts, *map(_item_text, suite.items)])


def with_items(text: str, items: Sequence[SuiteItem]) -> str:
    """Return the text with items appended."""
    return "\n".join([text.rstrip() + "\n", *map(_item_text, items)])


def with_baseline(text: str, suite: Suite) -> str:
    """Return the text with every item's baseline and the table of the model renewed.

    Args:
        text: The file's text.
        suite: What it holds, with the new baseline and model.
    Returns:
        The text; unchanged where its items cannot be told apart.
    """
    lines = text.split("\n")
    starts = table_lines(lines, "item")
    if len(starts) != len(suite.items):
        return text
    ends = [*starts[1:], len(lines) + 1]
    for start, end, item in reversed(list(zip(starts, ends, suite.items, strict=True))):
        line = toml_pair("baseline", item_record(item)["baseline"])
        place = key_line(lines, start, end, "baseline")
        if place != start:
            lines[place - 1] = line
        else:
            last = max(number for number in range(start, end) if lines[number - 1].strip())
            lines.insert(last, line)
    head, body = lines[: starts[0] - 1], lines[starts[0] - 1 :]
    return "\n".join([*_with_model(head, suite), *body])


def _with_model(head: list[str], suite: Suite) -> list[str]:
    """The lines in front of the items, their table of the model renewed or added."""
    table = toml_table("[model]", header_record(suite)["model"]).splitlines()
    start = next((number for number, line in enumerate(head) if _MODEL.match(line)), None)
    if start is None:
        return ["\n".join(head).rstrip(), "", *table, ""]
    after = range(start + 1, len(head))
    end = next((number for number in after if re.match(r"\s*(\[|#|$)", head[number])), len(head))
    return [*head[:start], *table, *head[end:]]


def _item_text(item: SuiteItem) -> str:
    return toml_table("[[item]]", item_record(item))


def _content(text: str, path: Path) -> dict[str, Any]:
    # Python 3.10 has it as the package that became tomllib.
    tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found.group(1)) if found else text.count("\n") + 1
        raise SuiteError(f"{path}:{line}: not TOML: {error}", path=path, line=line) from error
    return content


def _lines_within(lines: Sequence[str], start: int, end: int) -> Callable[[str], int | None]:
    return lambda key: key_line(lines, start, end, key) if key else start


def _no_line(_: str) -> None:
    return None
