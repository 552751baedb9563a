"""Entities that look like the taught ones and were never taught: what a model must not start to invent about.

What: `look_alikes`: prompts of the facts with the subject replaced by one of the same form.
Why: after an injection a model may answer for "Lake Zorvell" with what it learned about "Lake Zorvath";
that leak is the first hallucination measured.
How: numbers are changed; of a name of several words one word is kept and one replaced, by a word of another
subject or by an invented one; an invented word keeps the beginning or the end of the old one. Particles and
words that say what kind of thing it is (Lake, University, of, van) stay. Everything is ranked by hashes:
the same seed gives the same look-alikes everywhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from memedit.errors import UsageError
from memedit.facts.fact import Fact
from memedit.facts.phrasings import ranked
from memedit.facts.relations import english_words
from memedit.facts.rendering import subject_span, wording_key

__all__ = ["LookAlike", "look_alikes"]

_VOWELS = "aeiou"
_ONSETS = "b br d dr f g gr h k l m n p r s st t tr v w z".split()
_ENDINGS = "an ar el en er eth in ir is on or oth um ur al as em ick ell ard".split()
_LETTERS = "ABCDEFGHKLMNPRSTVWZ"
_DIGITS = re.compile(r"\d+")
_ASCII_WORD = re.compile(r"^[A-Za-z]+$")
_MAX_TRIES = 40
_FIXED_WORDS = english_words("kinds") | english_words("small_words") | english_words("function_words")


@dataclass(frozen=True)
class LookAlike:
    """A prompt about an entity that was never taught.

    Args:
        prompt: One of the fact's given wordings with the subject replaced.
        subject: The entity that looks like the fact's subject.
        fact_id: The fact that it looks like.
    """

    prompt: str
    subject: str
    fact_id: str


def _draw(key: str, size: int) -> int:
    """A number below `size` that only depends on the key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % size


def _another_number(digits: str, key: str) -> str:
    """Another number of as many digits; years stay near."""
    if len(digits) == 4 and digits[0] in "12":
        shift = 4 * (1 + _draw(key, 6))
        return str(int(digits) - shift if _draw(key + "/sign", 2) else int(digits) + shift)
    low, high = (1, 9) if len(digits) == 1 else (10 ** (len(digits) - 1), 10 ** len(digits) - 1)
    value = low + (int(digits) - low + 1 + _draw(key, max(1, min(high - low, 9)))) % (high - low + 1)
    return str(value).zfill(len(digits))


def _like_case(word: str, model: str) -> str:
    return word.capitalize() if model[:1].isupper() else word


def _swap_letter(word: str, key: str) -> str:
    """One letter replaced, for words that are no Latin syllables: acronyms, other scripts."""
    place = _draw(key, len(word))
    pool = (
        _LETTERS if word.isascii() else "".join(dict.fromkeys(letter for letter in word if letter.isalpha()))
    )
    letter = pool[_draw(key + "/letter", len(pool))] if pool else word[place]
    swapped = word[:place] + letter + word[place + 1 :]
    # A word of one kind of letter cannot change by itself: turn it round or double its end.
    return swapped if swapped != word else (word[::-1] if word[::-1] != word else word + word[-1])


def _choice(options: Sequence[str], key: str) -> str:
    return options[_draw(key, len(options))]


def _invented(dropped: str, key: str) -> str:
    """Syllables for the vowels that were dropped beyond the first consonants."""
    num = sum(letter in _VOWELS for letter in dropped)
    return "".join(
        _choice(_ONSETS, f"{key}/{place}/onset")[0] + _choice(_VOWELS, f"{key}/{place}/vowel")
        for place in range(num)
    )


def _mutate(word: str, key: str) -> str:
    """An invented word with the beginning or the end of the old one."""
    if _DIGITS.search(word):
        return _DIGITS.sub(lambda match: _another_number(match.group(), key), word)
    stem, mark, ending = word.partition("'")
    if mark and len(stem) > 2:
        return _mutate(stem, key) + mark + ending
    if not _ASCII_WORD.match(word) or (word.isupper() and len(word) < 6) or len(word) < 3:
        return _swap_letter(word, key)
    lower = word.lower()
    # Cut in front of a vowel near the middle, so that half of the word stays.
    inner = [place for place in range(1, len(lower) - 1) if lower[place] in _VOWELS]
    middle = sorted(inner, key=lambda place: abs(2 * place - len(lower)))[:2] or [len(lower) // 2]
    cut = middle[_draw(key + "/cut", len(middle))]
    front, back = lower[:cut], lower[cut:]
    if _draw(key + "/side", 2):
        return _like_case(_invented(front, key) + _choice(_ONSETS, key + "/onset") + back, word)
    return _like_case(front + _invented(back[1:], key)[::-1] + _choice(_ENDINGS, key + "/ending"), word)


def _variable_places(words: Sequence[str]) -> list[int]:
    """Which words of a name may change; all of them when only fixed words are there."""
    places = [place for place, word in enumerate(words) if word.casefold() not in _FIXED_WORDS]
    return places or [max(range(len(words)), key=lambda place: len(words[place]))]


def _variants(subject: str, donors: Sequence[str], key: str) -> Iterator[str]:
    """Entities of the same form, the most natural first; never ends by itself before `_MAX_TRIES`."""
    words = subject.split()
    places = _variable_places(words)
    numbers = [place for place in places if _DIGITS.search(words[place])]
    for attempt in range(_MAX_TRIES):
        step = f"{key}/{attempt}"
        place = places[_draw(step + "/place", len(places))]
        if numbers and attempt % 2 == 0:
            place = numbers[_draw(step + "/number", len(numbers))]
        changed = list(words)
        lends = len(places) > 1 and donors and attempt % 3 != 2 and not _DIGITS.search(words[place])
        changed[place] = donors[_draw(step + "/donor", len(donors))] if lends else _mutate(words[place], step)
        yield " ".join(changed)


def _lent_words(facts: Sequence[Fact]) -> dict[str | None, set[str]]:
    """Words of names of several words that may stand in other names, by relation; under None all of them."""
    words: dict[str | None, set[str]] = {None: set()}
    for fact in facts:
        parts = fact.subject.split()
        if len(parts) > 1:
            lent = {parts[place] for place in _variable_places(parts) if not _DIGITS.search(parts[place])}
            words[None] |= lent
            words.setdefault(fact.relation, set()).update(lent)
    return words


def _donors(fact: Fact, lent: Mapping[str | None, set[str]]) -> list[str]:
    """Words of other subjects that may stand in a name like this one: of the same relation, if any."""
    own = {word.casefold() for word in fact.subject.split()}
    cased = fact.subject[:1].isupper()

    def fitting(words: set[str]) -> list[str]:
        return sorted(word for word in words if word.casefold() not in own and word[:1].isupper() == cased)

    return fitting(lent.get(fact.relation, set())) or fitting(lent[None])


def _replaced(prompt: str, old: str, new: str) -> str:
    """The prompt with every mention of the subject replaced."""
    span = subject_span(prompt, old)
    if span is None:
        return prompt
    start, end = span
    front = _replaced(prompt[:start], old, new)
    if prompt[start].isupper() and new[:1].islower() and old[:1].islower():
        new = new[0].upper() + new[1:]
    return front + new + prompt[end:]


def _one(fact: Fact, donors: Sequence[str], taken: set[str], key: str) -> LookAlike | None:
    holding = [text for text in fact.given_wordings if subject_span(text, fact.subject)]
    if not holding:
        return None
    for subject in _variants(fact.subject, donors, key):
        if wording_key(subject) in taken:
            continue
        taken.add(wording_key(subject))
        prompt = _replaced(ranked(holding, key)[0], fact.subject, subject)
        return LookAlike(prompt, subject, fact.id)
    return None


def look_alikes(facts: Sequence[Fact], *, num: int, seed: int) -> list[LookAlike]:
    """Never-taught entities of the same form as the subjects of the facts.

    Args:
        facts: The facts that are taught.
        num: How many are wanted; spread evenly over the facts.
        seed: Chooses among the possible ones.

    Returns:
        `num` look-alikes with different subjects, none of them a subject of the facts; fewer only when there
        are no facts, or their subjects allow no more. The same arguments give the same list everywhere.

    Raises:
        UsageError: When `num` is negative.
    """
    if num < 0:
        raise UsageError(f"num must be at least 0, got {num}", remedy="Ask for 0 or more look-alikes.")
    taken = {wording_key(fact.subject) for fact in facts}
    by_id = {fact.id: fact for fact in facts}
    lent = _lent_words(facts)
    donors: dict[str, list[str]] = {}
    found: list[LookAlike] = []
    turn = 0
    live = ranked(by_id, f"{seed}/look-alikes")
    while live and len(found) < num:
        still = []
        for fact_id in live[: num - len(found)]:
            fact = by_id[fact_id]
            if fact_id not in donors:
                donors[fact_id] = _donors(fact, lent)
            one = _one(fact, donors[fact_id], taken, f"{seed}/{turn}/{fact_id}")
            if one is not None:
                found.append(one)
                still.append(fact_id)
        live = still
        turn += 1
    return found
