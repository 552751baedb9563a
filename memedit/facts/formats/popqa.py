"""PopQA: questions about entities of known popularity; the answers are a JSON list in a string.

Source: Mallen et al. 2023, "When Not to Trust Language Models".
It names its subjects, but asks one question about several entities of one name, with different answers: its
questions are asked and not taught.
"""

from __future__ import annotations

import json

from memedit.errors import FactsError
from memedit.facts.checked_values import kind_of, shown
from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading
from memedit.facts.question_record import QuestionRecord, question_id

__all__ = ["POPQA"]


def _answers(record: RecordFields) -> tuple[str, ...]:
    value = record.get("possible_answers")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise FactsError(
                f"possible_answers must be a JSON list in a string, got {shown(value)}",
                field="possible_answers",
            ) from error
    if not isinstance(value, list):
        raise FactsError(
            f"possible_answers must hold a list of texts, got {kind_of(value)}", field="possible_answers"
        )
    return RecordFields({"possible_answers": value}).needed_answers("possible_answers")


def _popularity(record: RecordFields) -> int | None:
    value = record.optional_text("s_pop")
    try:
        return None if value is None else int(float(value))
    except (ValueError, OverflowError) as error:
        raise FactsError(f"s_pop must be a number, got {shown(value)}", field="s_pop") from error


def _read(record: RecordFields, _reading: Reading) -> Made:
    question = record.text("question")
    name = record.optional_text("id") or question_id(question)
    return Made(questions=(QuestionRecord(name, question, _answers(record), popularity=_popularity(record)),))


POPQA = Format(
    name="popqa",
    title="PopQA",
    needs=(Need(("question",)), Need(("possible_answers",), "texts")),
    read=_read,
)
