"""NQ-open: real questions with short answers; also any file of questions with `question` and `answer`.

Source: Kwiatkowski et al. 2019 (Natural Questions); Lee et al. 2019, section 5.1 (the open form).
"""

from __future__ import annotations

from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading
from memedit.facts.question_record import QuestionRecord, question_id

__all__ = ["NQ_OPEN"]


def _read(record: RecordFields, _reading: Reading) -> Made:
    question = record.text("question")
    return Made(questions=(QuestionRecord(question_id(question), question, record.needed_answers("answer")),))


NQ_OPEN = Format(
    name="nq_open",
    title="NQ-open",
    needs=(Need(("question",)), Need(("answer",), "texts")),
    read=_read,
)
