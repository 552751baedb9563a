"""SelfAware: questions that have an answer, and questions to which nobody knows one.

Source: Yin et al. 2023, "Do Large Language Models Know What They Don't Know?".
"""

from __future__ import annotations

from memedit.errors import FactsError
from memedit.facts.checked_values import kind_of
from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading
from memedit.facts.question_record import QuestionRecord, question_id

__all__ = ["SELFAWARE"]


def _read(record: RecordFields, _reading: Reading) -> Made:
    question = record.text("question")
    answerable = record.get("answerable")
    if not isinstance(answerable, bool):
        raise FactsError(f"answerable must be true or false, got {kind_of(answerable)}", field="answerable")
    answers = record.needed_answers("answer") if answerable else record.answers("answer")
    if answers and not answerable:
        raise FactsError("answer is given, but answerable is false", field="answer")
    name = record.optional_text("question_id") or question_id(question)
    return Made(
        questions=(QuestionRecord(name, question, answers, kind="answerable", answerable=answerable),)
    )


SELFAWARE = Format(
    name="selfaware",
    title="SelfAware",
    needs=(Need(("question",)), Need(("answer",), "any"), Need(("answerable",), "any")),
    read=_read,
)
