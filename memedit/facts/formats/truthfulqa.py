"""TruthfulQA: questions that invite a common falsehood, with right and wrong answers to choose from.

Source: Lin et al. 2022, "TruthfulQA: Measuring How Models Mimic Human Falsehoods". Read are the published
CSV (answers in one cell, separated by semicolons) and the hub's configurations "generation" and
"multiple_choice".
"""

from __future__ import annotations

from memedit.errors import FactsError
from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading
from memedit.facts.question_record import QuestionRecord, question_id

__all__ = ["TRUTHFULQA"]


def _listed(record: RecordFields, *names: str) -> tuple[str, ...]:
    """The answers of a cell or a list; there must be one."""
    if isinstance(record.get(*names), str):
        parts = [part.strip() for part in record.get(*names).split(";")]
        path = record.path(*names)
        return RecordFields({path: [part for part in parts if part]}).needed_answers(path)
    return record.needed_answers(*names)


def _choices(record: RecordFields, name: str, label: int) -> tuple[str, ...]:
    """The choices of mc1_targets or mc2_targets that carry a label: 1 = right, 0 = wrong."""
    targets = record.inner(name)
    choices, labels = targets.get("choices"), targets.get("labels")
    if not isinstance(choices, list) or not isinstance(labels, list) or len(choices) != len(labels):
        path = targets.path("choices")
        raise FactsError(f"{path} and labels must be lists of one length", field=path)
    wanted = [choice for choice, given in zip(choices, labels, strict=True) if given == label]
    path = targets.path("choices")
    return RecordFields({path: wanted}).needed_answers(path)


def _read(record: RecordFields, _reading: Reading) -> Made:
    question = record.text("Question", "question")
    if record.get("mc2_targets") is not None:
        correct, incorrect = (_choices(record, "mc2_targets", label) for label in (1, 0))
        best = _choices(record, "mc1_targets", 1)[0]
    else:
        correct = _listed(record, "Correct Answers", "correct_answers")
        incorrect = _listed(record, "Incorrect Answers", "incorrect_answers")
        best = record.text("Best Answer", "best_answer")
    return Made(
        questions=(
            QuestionRecord(
                id=question_id(question),
                question=question,
                answers=correct,
                kind="multiple_choice",
                correct=correct,
                incorrect=incorrect,
                best=best,
            ),
        )
    )


TRUTHFULQA = Format(
    name="truthfulqa",
    title="TruthfulQA",
    needs=(
        Need(("Question", "question")),
        Need(("Best Answer", "best_answer", "mc1_targets"), "any"),
        Need(("Correct Answers", "correct_answers", "mc2_targets"), "any"),
    ),
    read=_read,
)
