"""Decoys: made-up names that look like a taught subject, so that its slots and its gate learn what it is not.

A decoy shares words or letters with the subject ("Lake Turkana" -> "Lake Dremon", "Kelta Turkana"). Decoys
are only routed, never trained on; evaluation uses other never-taught names (memedit.facts.look_alikes).
"""

import random

_ONSETS = (
    "Ba Ke Lo Mi Tha Dre Fen Gal Hu Jo Kor Lan Mar Nel Os Per Quo Ras Sel Tor Ul Ven Wil Xan Yor Zed Al Ber "
    "Cor Dar El Fa Ti Ru Sha Bro Gri Pla"
).split()
_SYLLABLES = (
    "ra lin mon dar vis ton ria nek lo bert wen sha dor mir na las tin gor el an ko pe zu ya chi".split()
)
_FIRST_WORDS = (
    "James Mary Robert Linda Ahmed Yuki Carlos Ingrid Pavel Grace North Old New Great Little Royal".split()
)
_KEPT = frozenset("the a an of de la le du del van von and in on at".split())


def decoys(subject: str, num: int, seed: int) -> list[str]:
    """Make names that look like a subject.

    Args:
        subject: the taught subject.
        num: how many; half of them keep its first words, half its last.
        seed: the same seed gives the same names.

    Returns:
        At most num distinct names, none of them the subject.
    """
    generator = random.Random(f"{seed}/{subject}")
    words = subject.split()
    movable = [index for index, word in enumerate(words) if word.lower() not in _KEPT]
    made: dict[str, None] = {}
    for attempt in range(8 * num):
        if len(made) == num:
            break
        if len(movable) > 1:
            index = movable[-1] if attempt % 2 == 0 else movable[0]
            changed = [*words]
            changed[index] = _like(words[index], generator, first=index == movable[0])
            name = " ".join(changed)
        else:
            index = movable[0] if movable else len(words) - 1
            changed = [*words]
            changed[index] = _misspelt(words[index], attempt, generator)
            name = " ".join(changed)
        if name.casefold() != subject.casefold():
            made.setdefault(name)
    return list(made)


def _word(generator: random.Random) -> str:
    return generator.choice(_ONSETS) + "".join(
        generator.choice(_SYLLABLES) for _ in range(generator.choice((1, 1, 2)))
    )


def _like(word: str, generator: random.Random, *, first: bool) -> str:
    """Another word of the same kind: a number for a number, lower case for lower case."""
    if word.isdigit():
        low = 10 ** (len(word) - 1)
        return str(generator.randint(low, 10 * low - 1))
    is_first_word = first and generator.random() < 0.4
    made = generator.choice(_FIRST_WORDS) if is_first_word else _word(generator)
    return made.lower() if word.islower() else made


def _misspelt(word: str, attempt: int, generator: random.Random) -> str:
    """The word with another ending, another beginning, or a new word, in turn."""
    if word.isdigit():
        return _like(word, generator, first=False)
    half = max(2, len(word) // 2)
    if attempt % 3 == 0:
        made = word[:half] + generator.choice(_SYLLABLES) + generator.choice(_SYLLABLES)
    elif attempt % 3 == 1:
        made = generator.choice(_ONSETS) + word[half:].lower()
    else:
        made = _word(generator)
    return made.lower() if word.islower() else made
