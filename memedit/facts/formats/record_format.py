"""What a dataset's format is: the fields that tell it from others, and how a record becomes facts.

What: `Format`, `Need` (a field that it must have), `Made` (what a record gives), `made_fact`, `probe`.
Why: each format is one small file with one `Format` in it, and everything around them is the same.
How: a format turns a record into the keys of a facts file, so that one schema checks them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memedit.errors import FactsError
from memedit.facts.fact import Fact
from memedit.facts.formats.record_fields import RecordFields, is_missing
from memedit.facts.question_record import QuestionRecord
from memedit.facts.rendering import wording_key
from memedit.facts.schema import parse_fact

__all__ = ["Format", "Made", "Need", "Reading", "filled", "made_fact", "probe"]

Kind = Literal["text", "texts", "list", "object", "any"]

_KINDS: dict[str, tuple[type, ...]] = {
    "text": (str, int, float),
    "texts": (str, int, float, list, tuple),
    "list": (list, tuple),
    "object": (Mapping,),
    "any": (object,),
}
_KIND_TEXT = {"list": " (a list)", "object": " (an object)"}


@dataclass(frozen=True)
class Need:
    """A field that tells a format from others.

    Args:
        names: What it may be called.
        kind: What it holds; "any" may be null as well.
    """

    names: tuple[str, ...]
    kind: Kind = "text"

    def found_in(self, record: Mapping[str, Any]) -> str | None:
        """The name under which a record has it, or None."""
        for name in self.names:
            if name not in record or (self.kind != "any" and is_missing(record[name])):
                continue
            if isinstance(record[name], _KINDS[self.kind]):
                return name
        return None

    def __str__(self) -> str:
        return " or ".join(self.names) + _KIND_TEXT.get(self.kind, "")


@dataclass(frozen=True)
class Made:
    """What one record gives.

    Args:
        facts: What can be taught; they stand or fall together.
        questions: What can only be asked.
    """

    facts: tuple[Fact, ...] = ()
    questions: tuple[QuestionRecord, ...] = ()


@dataclass(frozen=True)
class Reading:
    """How a file is being read.

    Args:
        line: The line on which the record begins, where the source has lines.
        target_convention: Which of the format's `target_conventions` the user wants.
    """

    line: int | None = None
    target_convention: str | None = None


@dataclass(frozen=True)
class Format:
    """A dataset's format.

    Args:
        name: What `--format` calls it.
        title: What it is called in documents.
        needs: The fields that every record of it has.
        read: Makes facts or questions of one record; raises FactsError with the field.
        target_conventions: Where the field has more than one answer that could be taught: the names of the
            choices, each with what it means. The user must say which.
    """

    name: str
    title: str
    needs: tuple[Need, ...]
    read: Callable[[RecordFields, Reading], Made]
    target_conventions: tuple[tuple[str, str], ...] = ()


def probe(prompt: str, answers: Sequence[str] = (), kind: str | None = None) -> dict[str, Any]:
    """A probe as a facts file writes it.

    Args:
        prompt: What is asked.
        answers: What counts as right, the main answer first; may be empty.
        kind: Its kind, where known.
    """
    target = answers[0] if answers else None
    return {"prompt": prompt, "target": target, "aliases": list(answers[1:]), "kind": kind}


def filled(template: str, subject: str, field: str) -> str:
    """A template with the subject in the place of "{}", to the letter as the dataset's authors fill it.

    Args:
        template: Text with "{}".
        subject: What to put there.
        field: The template's field, for the message.

    Raises:
        FactsError: When the template has no "{}".
    """
    if "{}" not in template:
        raise FactsError(
            f'{field} must have "{{}}" in the place of the subject, got {template!r}', field=field
        )
    return template.replace("{}", subject)


def made_fact(native: Mapping[str, Any], reading: Reading, fields: Mapping[str, str]) -> Fact:
    """A fact of a record, checked as those of a facts file are.

    Args:
        native: The keys of a facts file. What `replaces` says is dropped where it is an answer itself.
        reading: How the file is being read.
        fields: For each key the field of the record that it comes from, for messages.

    Raises:
        FactsError: For the first thing that is wrong, with the record's own field.
    """
    answers = {wording_key(text) for text in (native["target"], *native.get("aliases", ()))}
    replaces = native.get("replaces")
    if replaces is not None and wording_key(replaces) in answers:
        native = {**native, "replaces": None}
    try:
        return parse_fact(native, line=reading.line)
    except FactsError as error:
        field = fields.get(error.field or "", error.field)
        message = f"{field}: {error.message}" if field and field != error.field else error.message
        raise FactsError(message, field=field, remedy=error.remedy) from error
