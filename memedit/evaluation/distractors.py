"""Distracting contexts: sentences about something else, put in front of a prompt.

What: `distracting_sentences`, `behind_distractor`.
Why: an edit that answers only at the beginning of a text is of no use in a conversation.
How: sentences of the bundled general text, which is never trained on (the sentences that training puts in
front of wordings are others: memedit.facts.context_sentences). Which one stands in front of a prompt follows
from the seed and the prompt alone, and it shares no word with the fact.
"""

from __future__ import annotations

import functools
import hashlib
import re
from importlib import resources

__all__ = ["behind_distractor", "distracting_sentences"]

_SENTENCE_END = re.compile(r"(?<=\.)\s+(?=[A-Z])")
# One sentence of plain prose: no speech, no list, no code.
_PLAIN_SENTENCE = re.compile(r"[A-Z][A-Za-z0-9 ,'-]{39,159}\.")
_WORD = re.compile(r"\w{4,}")


@functools.cache
def distracting_sentences() -> tuple[str, ...]:
    """Return the sentences of 40 to 160 characters of the bundled general text, in its order."""
    bundled = resources.files("memedit.evaluation").joinpath("data/general_text.txt")
    sentences = _SENTENCE_END.split(" ".join(bundled.read_text(encoding="utf-8").split()))
    return tuple(dict.fromkeys(text for text in sentences if _PLAIN_SENTENCE.fullmatch(text)))


def behind_distractor(prompt: str, about: str, *, seed: int) -> str:
    """Return a prompt behind a sentence about something else.

    Args:
        prompt: The prompt.
        about: Everything that the fact says: its prompt, subject and answers.
        seed: Chooses the sentence, together with the prompt.
    Returns:
        A sentence that shares no word of four letters or more with `about`, a space, and the prompt. Where
        every sentence shares one, the one that the seed chose.
    """
    sentences = distracting_sentences()
    words = _words(about)
    digest = hashlib.sha256(f"{seed}\n{prompt}".encode("utf-8", "surrogatepass")).digest()
    first = int.from_bytes(digest[:8], "big") % len(sentences)
    in_turn = (*sentences[first:], *sentences[:first])
    unrelated = (sentence for sentence in in_turn if words.isdisjoint(_words(sentence)))
    return f"{next(unrelated, in_turn[0])} {prompt}"


@functools.lru_cache(maxsize=1024)
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold()))
