"""How alike two wordings are: which of the facts about one subject a prompt asks for.

What: `wording_likeness` of a prompt and a fact.
Why: several facts of one subject share their slots, so routing alone cannot say which of them a prompt is
about; its wording can.
How: the subject is cut out of the prompt and of everything that is taught for the fact, and the pieces of
four letters that two texts share are counted: "founder" and "founded" share most of theirs. No model.
"""

from __future__ import annotations

import re
from collections import Counter

from memedit.facts.fact import Fact
from memedit.facts.phrasings import wordings
from memedit.facts.rendering import mention_span, wording_key

__all__ = ["wording_likeness"]

_WORD = re.compile(r"[^\W_]+")
_PIECE = 4


def wording_likeness(prompt: str, fact: Fact) -> float:
    """Return how alike a prompt and the wordings taught for a fact are, the subject left out.

    Args:
        prompt: What was asked.
        fact: A fact.
    Returns:
        0 (nothing shared) to 1 (the very words of one of them): the largest Dice coefficient of the pieces of
        four letters. Frames around a wording and sentences in front of it are not compared.

    Source: Dice (1945), Measures of the amount of ecologic association between species.
    """
    asked = _pieces(prompt, fact.subject)
    taught = {wording.prompt for wording in wordings(fact, seed=0, num_contexts=0)}
    return max(_dice(asked, _pieces(text, fact.subject)) for text in sorted(taught))


def _pieces(text: str, subject: str) -> Counter[str]:
    span = mention_span(text, subject)
    rest = text if span is None else f"{text[: span[0]]} {text[span[1] :]}"
    pieces: Counter[str] = Counter()
    for word in _WORD.findall(wording_key(rest)):
        # Marks at both ends, so that beginnings and endings count more and short words count at all.
        marked = f"<{word}>"
        pieces.update(marked[start : start + _PIECE] for start in range(max(1, len(marked) - _PIECE + 1)))
    return pieces


def _dice(first: Counter[str], second: Counter[str]) -> float:
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 1.0
