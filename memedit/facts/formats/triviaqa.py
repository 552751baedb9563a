"""TriviaQA: trivia questions with many aliases of each answer, in the published or the hub's spelling.

Source: Joshi et al. 2017, "TriviaQA: A Large Scale Distantly Supervised Challenge Dataset".
"""

from __future__ import annotations

from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading
from memedit.facts.question_record import QuestionRecord, question_id

__all__ = ["TRIVIAQA"]


def _read(record: RecordFields, _reading: Reading) -> Made:
    question = record.text("question", "Question")
    answer = record.inner("answer", "Answer")
    answers = (answer.text("value", "Value"), *answer.answers("aliases", "Aliases"))
    name = record.optional_text("question_id", "QuestionId") or question_id(question)
    return Made(questions=(QuestionRecord(name, question, tuple(dict.fromkeys(answers))),))


TRIVIAQA = Format(
    name="triviaqa",
    title="TriviaQA",
    needs=(Need(("question", "Question")), Need(("answer", "Answer"), "object")),
    read=_read,
)
