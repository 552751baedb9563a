"""Reading any dataset into facts and questions.

What: `read_records` -> `Records`, with every record that could not be used in `bad`.
Why: people have their facts in the files of the benchmarks; one bad record must be named, and must not cost
the other thousands where the user says so.
How: raw records from a file or the hub, a format for them, one Fact or question each, and what contradicts an
earlier fact taken out. Probes that another fact of the file teaches are left out, since their answer is no
longer the one that the dataset expects.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memedit.errors import FactsError
from memedit.facts.fact import Fact
from memedit.facts.formats.catalogue import chosen_format, require_convention
from memedit.facts.formats.hub_datasets import PREFIX, hub_records
from memedit.facts.formats.raw_records import RawRecord, file_records
from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Reading
from memedit.facts.problems import MAX_PROBLEMS, raise_problems
from memedit.facts.question_record import QuestionRecord
from memedit.facts.schema import EXAMPLE
from memedit.facts.settling import (
    Merged,
    Settlement,
    TaughtProbe,
    taught_probe_problems,
    without_taught_probes,
)

__all__ = ["BadRecord", "Records", "read_records"]

_SKIP_HINT = "Or leave out what is bad: --skip-bad (skip_bad=True)."


@dataclass(frozen=True)
class BadRecord:
    """A record that could not be used.

    Args:
        path: The file, or the name of the dataset.
        record: The number of the record, from 1.
        line: The line on which it begins; None where the source has no lines.
        field: The field at fault, where one is.
        message: What was got and what was expected.
    """

    path: str
    record: int
    line: int | None
    field: str | None
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}" if self.line else f"{self.path}: {self.message}"


@dataclass(frozen=True)
class Records:
    """What a dataset holds.

    Args:
        source: Where it was read.
        format: The name of its format.
        num_records: How many records it has: used, merged and bad ones.
        facts: What can be taught; they agree with each other.
        questions: What can only be asked.
        bad: The records that were left out; empty unless `skip_bad`.
        merged: The facts that repeat an earlier one.
        left_out: Probes that were taken out, since a fact of the file teaches them.
    """

    source: str
    format: str
    num_records: int
    facts: tuple[Fact, ...] = ()
    questions: tuple[QuestionRecord, ...] = ()
    bad: tuple[BadRecord, ...] = ()
    merged: tuple[Merged, ...] = ()
    left_out: tuple[TaughtProbe, ...] = ()

    def counts(self) -> dict[str, Any]:
        """Where it was read, in which format, and how much of what, as plain JSON."""
        return {
            "source": self.source,
            "format": self.format,
            "records": self.num_records,
            "facts": len(self.facts),
            "questions": len(self.questions),
            "bad": len(self.bad),
            "merged": len(self.merged),
            "probes_left_out": len(self.left_out),
        }

    def require_facts(self) -> tuple[Fact, ...]:
        """The facts, of which there must be some.

        Raises:
            FactsError: When the dataset has questions only.
        """
        if not self.facts:
            raise FactsError(
                f"{self.source}: {self.format} has {len(self.questions):,} questions and nothing to teach",
                path=self.source,
                remedy="Such questions name no subject: they measure a model. A fact has a prompt, a subject"
                f" and a target, for example {EXAMPLE}.",
            )
        return self.facts


class _Reader:
    """Takes raw records and keeps what they give, or what is wrong with them."""

    def __init__(self, chosen: Format, source: str, target_convention: str | None) -> None:
        self.chosen = chosen
        self.source = source
        self.target_convention = target_convention
        self.num_records = 0
        self.settlement = Settlement()
        self.questions: list[QuestionRecord] = []
        self.problems: list[FactsError] = []
        self.bad: list[BadRecord] = []
        self._ids: Counter[str] = Counter()

    def take(self, raw: RawRecord) -> None:
        self.num_records += 1
        try:
            self._keep(self._made(raw))
        except FactsError as error:
            # In a list people count records; a line is enough where every record has its own.
            message = f"record {raw.number}: {error.message}" if raw.is_numbered else error.message
            self.problems.append(FactsError(message, line=raw.line, field=error.field, remedy=error.remedy))
            self.bad.append(BadRecord(self.source, raw.number, raw.line, error.field, message))

    def _made(self, raw: RawRecord) -> Made:
        if raw.value is None:
            raise raw.error or FactsError("is empty")
        return self.chosen.read(RecordFields(raw.value), Reading(raw.line, self.target_convention))

    def _keep(self, made: Made) -> None:
        problem = self.settlement.take(made.facts)
        if problem is not None:
            raise problem
        for question in made.questions:
            self._ids[question.id] += 1
            repeat = self._ids[question.id]
            self.questions.append(replace(question, id=f"{question.id}-{repeat}") if repeat > 1 else question)

    @property
    def is_native(self) -> bool:
        return self.chosen.name == "memedit"

    def records(self) -> Records:
        """Everything that was taken."""
        facts, left_out = without_taught_probes(self.settlement.facts)
        return Records(
            source=self.source,
            format=self.chosen.name,
            num_records=self.num_records,
            facts=tuple(facts),
            questions=tuple(self.questions),
            bad=tuple(self.bad),
            merged=tuple(self.settlement.merged),
            left_out=tuple(left_out),
        )


def read_records(
    source: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    *,
    skip_bad: bool = False,
    target_convention: str | None = None,
) -> Records:
    """Read a dataset in any format that memedit knows (docs/facts.md).

    Args:
        source: A file (.json, .jsonl, .csv, .tsv), or "hf:owner/name/config:split" (`datasets` library).
        format: The name of its format, a key of `FORMATS`; None = recognise it from the first records.
        skip_bad: Leave out records that cannot be used, and list them in `Records.bad`; else they raise.
        target_convention: Which answer is taught, where the format has two: "answers" or "alt" for zsre.

    Returns:
        Facts that can be injected together, and questions that can be asked.

    Raises:
        FactsError: When the source cannot be read, no format fits, or a record cannot be used: all problems
            (up to `MAX_PROBLEMS`) in one message, each with file and line. With `skip_bad` only where no
            record at all can be used, or the rest of a file cannot be read.
        UsageError: When the format or the convention is unknown, or the convention is missing.
    """
    source = os.fspath(source)
    raw = _UntilBroken(hub_records(source) if source.startswith(PREFIX) else file_records(Path(source)))
    head = list(itertools.islice(raw, MAX_PROBLEMS))
    if not head:
        raise_problems(raw.breaks, source)
    reader = _started(head, format, source, target_convention)
    for record in itertools.chain(head, raw):
        reader.take(record)
        if len(reader.problems) >= MAX_PROBLEMS and not skip_bad:
            break
    if reader.is_native and not skip_bad:
        reader.problems.extend(taught_probe_problems(reader.settlement.facts))
    if raw.breaks:
        raise_problems([*([] if skip_bad else reader.problems), *raw.breaks], source)
    if reader.problems and (not skip_bad or len(reader.problems) == reader.num_records):
        hint = f"None of {reader.num_records:,} records can be used." if skip_bad else _SKIP_HINT
        raise_problems(reader.problems, source, hint=hint)
    return reader.records()


class _UntilBroken:
    """Raw records up to where the source breaks; what broke it is in `breaks`."""

    def __init__(self, raw: Iterator[RawRecord]) -> None:
        self._raw = raw
        self.breaks: list[FactsError] = []

    def __iter__(self) -> Iterator[RawRecord]:
        return self

    def __next__(self) -> RawRecord:
        try:
            return next(self._raw)
        except FactsError as error:
            if error.line is None:
                # Nothing could be opened at all.
                raise
            self.breaks.append(error)
            raise StopIteration from error


def _started(head: list[RawRecord], name: str | None, source: str, target_convention: str | None) -> _Reader:
    """A reader for the format of the first records."""
    if not head:
        raise FactsError(
            f"facts file {source} is empty",
            path=source,
            remedy=f"Write one fact a line, for example {EXAMPLE}.",
        )
    values = [record.value for record in head if record.value is not None]
    if not values and name is None:
        name = "memedit"
    chosen = chosen_format(name, values, source)
    require_convention(chosen, target_convention, source)
    return _Reader(chosen, source, target_convention)
