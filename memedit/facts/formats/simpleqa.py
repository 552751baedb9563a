"""SimpleQA: short questions with one answer each.

Source: Wei et al. 2024, "Measuring short-form factuality in large language models".
"""

from __future__ import annotations

from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading
from memedit.facts.question_record import QuestionRecord, question_id

__all__ = ["SIMPLEQA"]


def _read(record: RecordFields, _reading: Reading) -> Made:
    question = record.text("problem")
    return Made(questions=(QuestionRecord(question_id(question), question, record.needed_answers("answer")),))


SIMPLEQA = Format(
    name="simpleqa",
    title="SimpleQA",
    needs=(Need(("problem",)), Need(("answer",))),
    read=_read,
)
