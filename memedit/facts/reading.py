"""Reading facts: a JSONL file, or records that a program already holds.

What: `read_facts` (the facts), `read_facts_file` (the facts and what was merged), `facts_from_records`.
Why: a run takes minutes, so everything that is wrong with the input is said before it starts, for all lines
at once, as `file:line: what is wrong` with what to do about it.
How: lines come one at a time from `file_lines`, are parsed, and checked alone and together. Other formats are
read by memedit.facts.formats.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.errors import FactsError
from memedit.facts.fact import Fact
from memedit.facts.file_lines import MAX_LINE_BYTES, decoded_line, json_object, numbered_lines, open_file
from memedit.facts.problems import MAX_PROBLEMS, raise_problems
from memedit.facts.schema import EXAMPLE, parse_fact
from memedit.facts.settling import Merged, settle

__all__ = ["FactsFile", "facts_from_records", "read_facts", "read_facts_file"]


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


def _settled(
    facts: Sequence[Fact], errors: list[FactsError], path: Path | None
) -> tuple[list[Fact], list[Merged]]:
    unique, merged, disagreements = settle(facts)
    raise_problems([*errors, *disagreements], path)
    return unique, merged


def read_facts_file(path: str | os.PathLike[str], *, max_line_bytes: int = MAX_LINE_BYTES) -> FactsFile:
    """The facts of a JSONL file, and what was merged in it.

    Args:
        path: UTF-8 text, one JSON object a line; empty lines are skipped.
        max_line_bytes: A longer line is refused without being read whole.

    Returns:
        The facts in the order of the file, each with its line.

    Raises:
        FactsError: When the file or any line of it cannot be used: all problems (up to `MAX_PROBLEMS`) in one
            message, each with file and line.
    """
    path = Path(path)
    facts: list[Fact] = []
    errors: list[FactsError] = []
    with open_file(path) as stream:
        for number, raw in numbered_lines(stream, max_line_bytes):
            try:
                text = decoded_line(raw, number, max_line_bytes).strip()
                if text:
                    facts.append(parse_fact(json_object(text), line=number))
            except FactsError as error:
                errors.append(FactsError(error.message, line=number, remedy=error.remedy))
            if len(errors) >= MAX_PROBLEMS:
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
        FactsError: All problems (up to `MAX_PROBLEMS`) in one message; also when there are no records.
    """
    facts: list[Fact] = []
    errors: list[FactsError] = []
    number = 0
    for number, record in enumerate(records, start=1):
        try:
            facts.append(_from_record(record, number))
        except FactsError as error:
            errors.append(FactsError(error.message, line=number, remedy=error.remedy))
        if len(errors) >= MAX_PROBLEMS:
            break
    if number == 0:
        raise FactsError("no facts were given", remedy=f"Give at least one, for example {EXAMPLE}.")
    return _settled(facts, errors, None)[0]
