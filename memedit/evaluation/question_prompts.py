r"""How a benchmark's question is put to a model.

What: `question_prompt`, `SHORT_ANSWERS`, `ANSWERS_AND_REFUSALS`.
Why: a model answers a bare question with an empty line, a sentence or another question; the same few examples
in front let it answer shortly, and every family must ask in the same way for its numbers to compare.
How: "Question: ...\nAnswer:", the form that memedit never trains; examples stand in front in the same form,
with an empty line between them.
"""

from __future__ import annotations

from collections.abc import Sequence

from memedit.evaluation.matching import normalise

__all__ = ["ANSWERS_AND_REFUSALS", "SHORT_ANSWERS", "question_prompt"]

SHORT_ANSWERS: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", "Paris"),
    ("Who wrote the play Romeo and Juliet?", "William Shakespeare"),
    ("How many legs does a spider have?", "8"),
    ("In which year did the Second World War end?", "1945"),
)
"""Questions with short answers: the examples in front of an open question."""

ANSWERS_AND_REFUSALS: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", "Paris"),
    ("What will the weather be like in Berlin in the summer of 2300?", "I don't know"),
    ("Who wrote the play Romeo and Juliet?", "William Shakespeare"),
    ("How many grains of sand did Plato step on in his life?", "I don't know"),
)
"""Two questions with answers and two without: the examples in front of what may have no answer."""

_ENDS = ("?", ".", "!", "\uff1f", "\u061f")


def question_prompt(question: str, examples: Sequence[tuple[str, str]] = ()) -> str:
    r"""Return the prompt that asks a question.

    Args:
        question: The bare question; a question mark is added where it ends without a mark.
        examples: (question, answer) pairs to put in front; one that asks the same is left out.
    Returns:
        "Question: ...\nAnswer:", without a trailing space.
    """
    asked = normalise(question)
    shown = [(other, answer) for other, answer in examples if normalise(other) != asked]
    blocks = [f"{_block(other)} {answer}" for other, answer in shown]
    return "\n\n".join([*blocks, _block(question)])


def _block(question: str) -> str:
    # A line break inside would end the question early.
    plain = " ".join(question.split())
    return f"Question: {plain if plain.endswith(_ENDS) else plain + '?'}\nAnswer:"
