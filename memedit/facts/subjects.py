"""Finding what an English prompt speaks of, when the user did not say it.

What: `find_subject`: the last proper name of the prompt, or None.
Why: slots are chosen at the subject's tokens, so a wrong subject spoils the edit quietly; None ends in a
clear question to the user, and is the better answer in every doubtful case.
How: quoted titles first; else runs of words with capitals (and the numbers beside them), joined over
particles ("Battle of the Bulge", "Ludwig van Beethoven"). No dictionary of names, no model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from memedit.facts.relations import english_words
from memedit.facts.rendering import subject_span

__all__ = ["find_subject", "subject_candidates"]

_WORD = re.compile(r"[^\W_](?:[\w\u2019'&.+/-]*[\w+#])?[+#]*")
_QUOTED = re.compile(
    r"(?<!\w)\"([^\"]{1,100})\"|\u201c([^\u201d]{1,100})\u201d|\u00ab([^\u00bb]{1,100})\u00bb"
    r"|\u201e([^\u201c\u201d]{1,100})[\u201c\u201d]"
)
_POSSESSIVE = re.compile(r"(?:['\u2019]s|['\u2019])$")
_ABBREVIATIONS = english_words("abbreviations")
_LABELS = english_words("labels")
# A lower-case word between two names that makes one name of them.
_PARTICLES = english_words("particles")
# These join names only in front of "the": "Guide to the Galaxy", "Gone with the Wind".
_PARTICLES_BEFORE_THE = english_words("particles_before_the")
# Words that open a sentence with a capital and are no name.
_FUNCTION_WORDS = english_words("function_words")
# "The CEO of X", "the President of X": the name is X. Anything else in front of "of" belongs to the name.
_ROLES = english_words("roles")
# Names that describe something else in the prompt more often than they are its subject.
_ATTRIBUTES = english_words("attributes")
_VERBS = english_words("verbs")
_SPECIES = re.compile(r"^[a-z]{2,}(?:ensis|ense|icus|inus|alis|oides|ii|ae|ica|osa|ulus|ifolia)$")


@dataclass(frozen=True)
class _Token:
    text: str
    start: int
    end: int
    opens_sentence: bool
    joined: bool  # nothing but a space (or an abbreviation's dot, or "&") between it and the token before it

    @property
    def folded(self) -> str:
        return _POSSESSIVE.sub("", self.text).casefold()

    @property
    def is_capital(self) -> bool:
        return any(letter.isupper() or letter.istitle() for letter in self.text)

    @property
    def is_number(self) -> bool:
        return self.text[0].isdigit() and not self.is_capital


def _tokens(prompt: str) -> list[_Token]:
    tokens: list[_Token] = []
    for match in _WORD.finditer(prompt):
        gap = prompt[tokens[-1].end : match.start()] if tokens else ""
        last = tokens[-1].text if tokens else ""
        abbreviated = gap.startswith(".") and (len(last) == 1 or last.casefold() in _ABBREVIATIONS)
        between = gap[1:] if abbreviated else gap
        stopped = not abbreviated and between.strip().endswith((".", "?", "!", ":"))
        opens = not tokens or stopped or "\n" in gap
        joined = (bool(tokens) and between.isspace()) or between.strip() == "&"
        tokens.append(_Token(match.group(), *match.span(), opens_sentence=opens, joined=joined))
    return tokens


def _in_names(tokens: Sequence[_Token], prompt: str) -> list[bool]:
    """Which tokens can belong to a name by themselves: capitals, and numbers beside them."""
    capitals = []
    for index, token in enumerate(tokens):
        opener = token.folded in _FUNCTION_WORDS and (token.opens_sentence or token.text == "I")
        label = token.folded in _LABELS and prompt[token.end : token.end + 1] == ":"
        follower = tokens[index + 1] if index + 1 < len(tokens) else None
        # "Students of Oslo", "Visitors to Oslo": a plural that opens the sentence is no name.
        crowd = token.opens_sentence and token.folded.endswith("s") and follower is not None
        crowd = crowd and follower is not None and follower.text in ("of", "to", "in", "from", "and", "for")
        capitals.append(token.is_capital and not opener and not label and not crowd)
    marks = list(capitals)
    for index, token in enumerate(tokens):
        if token.is_number and not capitals[index]:
            follows = index > 0 and capitals[index - 1] and token.joined
            leads = index + 1 < len(tokens) and capitals[index + 1] and tokens[index + 1].joined
            dated = index > 0 and tokens[index - 1].folded in _FUNCTION_WORDS - {"the", "a", "of"}
            marks[index] = follows or (leads and not dated)
    return marks


def _bridge(tokens: Sequence[_Token], marks: Sequence[bool], index: int) -> int | None:
    """The index of the name word that particles behind `tokens[index]` lead to, or None."""
    end = index + 1
    while end < len(tokens) and end <= index + 3 and tokens[end].joined and not marks[end]:
        if tokens[end].text not in _PARTICLES | _PARTICLES_BEFORE_THE:
            return None
        end += 1
    particles = [token.text for token in tokens[index + 1 : end]]
    if not particles or end >= len(tokens) or not marks[end] or not tokens[end].joined:
        return None
    if particles[0] in _PARTICLES_BEFORE_THE and particles[1:2] != ["the"]:
        return None
    if particles[0] in ("of", "for") and tokens[index].folded in _ROLES:
        return None
    return end


def _runs(tokens: Sequence[_Token], prompt: str) -> list[list[_Token]]:
    marks = _in_names(tokens, prompt)
    runs: list[list[_Token]] = []
    index = 0
    while index < len(tokens):
        if not marks[index]:
            index += 1
            continue
        first = last = index
        while True:
            after = last + 1
            if after < len(tokens) and marks[after] and tokens[after].joined:
                last = after
                continue
            bridged = _bridge(tokens, marks, last)
            if bridged is None:
                break
            last = bridged
        # "Quercus maldorensis": a species keeps its lower-case epithet.
        after = last + 1
        follower = tokens[after] if after < len(tokens) else None
        if first == last and follower is not None and follower.joined and _SPECIES.match(follower.text):
            last = after
        runs.append(list(tokens[first : last + 1]))
        index = last + 1
    return runs


def _is_likely(run: Sequence[_Token], tokens: Sequence[_Token]) -> bool:
    """Whether a run is a name: a lone word that opens the sentence needs a verb (third person) behind it."""
    if all(token.is_number for token in run):
        return False
    plain = len(run) == 1 and run[0].opens_sentence and run[0].text.isalpha() and run[0].text[1:].islower()
    if not plain:
        return not all(token.folded in _ATTRIBUTES or token.is_number for token in run)
    position = tokens.index(run[0]) + 1
    follower = tokens[position].text if position < len(tokens) else ""
    if follower in _VERBS or follower.endswith("s"):
        return True
    # "Doctors prescribed" is a crowd, "Paris hosted" is not.
    plural = run[0].text.endswith("s") and not run[0].text.endswith(("is", "us", "os", "ss"))
    return follower.endswith("ed") and not plural


def subject_candidates(prompt: str) -> list[str]:
    """The names in a prompt, the likeliest subject first.

    Args:
        prompt: English text.

    Returns:
        Quoted titles from the last to the first, then runs of names from the last to the first.
    """
    quoted = [next(filter(None, match.groups())).strip(" ,.") for match in _QUOTED.finditer(prompt)]
    tokens = _tokens(prompt)
    if not any(token.folded in _FUNCTION_WORDS or token.text in _VERBS for token in tokens):
        # Not English: capitals say little about names there.
        return [text for text in reversed(quoted) if text]
    runs = [run for run in reversed(_runs(tokens, prompt)) if _is_likely(run, tokens)]
    names = [_POSSESSIVE.sub("", prompt[run[0].start : run[-1].end]) for run in runs]
    return list(dict.fromkeys(text for text in [*reversed(quoted), *names] if text))


def find_subject(prompt: str, paraphrases: Sequence[str] = ()) -> str | None:
    """What the prompt speaks of.

    Args:
        prompt: English text that ends right before the answer.
        paraphrases: Other wordings of the same fact: a name that all of them have is preferred.

    Returns:
        The subject as it stands in the prompt, or None when none can be named with confidence.
    """
    candidates = subject_candidates(prompt)
    shared = [name for name in candidates if all(subject_span(text, name) for text in paraphrases)]
    return next(iter(shared or candidates), None)
