"""SQuAD's exact match and F1: an answer as a bag of words, the maximum over the answers that count as right.

What: `squad_normalise`, `squad_exact_match`, `squad_f1`.
Why: question answering is compared across papers by these two; `matching` is our own, stricter about words
and laxer about what follows the answer.
How: exactly the official normalisation, ASCII punctuation only, so that the numbers are comparable: neither
Unicode forms nor typographic quotes are made equal, and scripts without spaces are one word.

Source: Rajpurkar et al. (2016), SQuAD: 100,000+ Questions for Machine Comprehension of Text, section 6.1, and
Rajpurkar, Jia and Liang (2018) for answers without words.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

__all__ = ["squad_exact_match", "squad_f1", "squad_normalise"]

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_normalise(text: str) -> str:
    """Bring a text to SQuAD's form.

    Args:
        text: A generated answer, a target or an alias.
    Returns:
        The text in lower case, without ASCII punctuation and the articles "a", "an" and "the", with single
        spaces; may be empty.
    """
    plain = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def squad_exact_match(text: str, answers: Iterable[str]) -> float:
    """Return 1 when the normalised text equals a normalised answer, else 0.

    Args:
        text: The generated answer, the whole of it: "Paris, France" is not "Paris".
        answers: The target and its aliases.
    Returns:
        1.0 or 0.0; 0.0 without answers.
    """
    shown = squad_normalise(text)
    return float(any(shown == squad_normalise(answer) for answer in _listed(answers)))


def squad_f1(text: str, answers: Iterable[str]) -> float:
    """Return the largest F1 of words between the text and one of the answers.

    Args:
        text: The generated answer, the whole of it.
        answers: The target and its aliases.
    Returns:
        max over answers of 2 PR / (P + R), in [0, 1], where P and R are the shares of the text's and of the
        answer's words that the two have in common, counted as often as they occur. Where one side has no
        words, 1 if the other has none either and 0 otherwise. 0.0 without answers.
    """
    words = squad_normalise(text).split()
    return max((_f1(words, squad_normalise(answer).split()) for answer in _listed(answers)), default=0.0)


def _listed(answers: Iterable[str]) -> Iterable[str]:
    return (answers,) if isinstance(answers, str) else answers


def _f1(words: list[str], expected: list[str]) -> float:
    if not words or not expected:
        return float(words == expected)
    num_common = sum((Counter(words) & Counter(expected)).values())
    return 2 * num_common / (len(words) + len(expected))
