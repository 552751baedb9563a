"""Questions that are only asked, never taught: what a benchmark of questions and answers holds.

What: `QuestionRecord`, frozen, plain JSON.
Why: such a question names no subject, so it cannot be a `Fact`; but it is asked before and after an edit, to
see what the model still knows, what it makes up, and what it asserts where nothing can be known.
How: one shape for three kinds of questions; the readers in memedit.facts.formats make them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from memedit.facts.fact import ID_LENGTH

__all__ = ["QuestionKind", "QuestionRecord", "question_id"]

QuestionKind = Literal["open", "multiple_choice", "answerable"]
"""open: has right answers (NQ-open, TriviaQA, PopQA, SimpleQA); multiple_choice: has right and wrong answers
to choose from (TruthfulQA); answerable: has an answer, or none that anybody knows (SelfAware)."""


def question_id(question: str) -> str:
    """The content hash of a question, for files that number theirs not.

    Args:
        question: The bare question.

    Returns:
        `ID_LENGTH` lower-case hexadecimal digits.
    """
    return hashlib.sha256(question.encode("utf-8")).hexdigest()[:ID_LENGTH]


@dataclass(frozen=True)
class QuestionRecord:
    """A question of a benchmark, with what counts as right.

    Args:
        id: Stable within its file: the file's own id, else a hash of the question.
        question: The bare question, without "Q:" and "Answer:".
        answers: Everything that counts as right for a generated answer; empty where nobody knows.
        kind: What is asked of the model (`QuestionKind`).
        correct: The right choices (multiple_choice).
        incorrect: The wrong choices (multiple_choice).
        best: The best of the right choices (multiple_choice).
        answerable: Whether anybody knows the answer (answerable); None where that is not the point.
        popularity: How often the subject is looked up (PopQA: monthly page views), or None.
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    kind: QuestionKind = "open"
    correct: tuple[str, ...] = ()
    incorrect: tuple[str, ...] = ()
    best: str | None = None
    answerable: bool | None = None
    popularity: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The question as one JSON object, without its empty fields."""
        content: dict[str, Any] = {
            "id": self.id,
            "question": self.question,
            "answers": list(self.answers),
            "kind": self.kind,
            "correct": list(self.correct),
            "incorrect": list(self.incorrect),
            "best": self.best,
            "answerable": self.answerable,
            "popularity": self.popularity,
        }
        return {name: value for name, value in content.items() if value is not None and value != []}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> QuestionRecord:
        """The question that `to_json` wrote."""
        return cls(
            id=value["id"],
            question=value["question"],
            answers=tuple(value.get("answers", ())),
            kind=value.get("kind", "open"),
            correct=tuple(value.get("correct", ())),
            incorrect=tuple(value.get("incorrect", ())),
            best=value.get("best"),
            answerable=value.get("answerable"),
            popularity=value.get("popularity"),
        )
