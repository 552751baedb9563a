"""Whether a generated text gives the expected answer: exact match at the start of the answer, or inside it.

What: `normalise`, `matches` and the laxer `contains`. Why: a model continues after the answer ("Paris, the
capital of ..."), so the text must START WITH the target or an alias; and it must end there at a word
boundary, so that "Niger" is not credited to "Nigeria" nor "1" to "1,500".
How: both sides are brought to one form (NFKC, casefold, invisible characters dropped, curly quotes and short
dashes made plain, spaces collapsed, quotes, punctuation and an English article in front ignored), then
compared. Pure standard library.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["contains", "matches", "normalise"]

# Typographic variants of one character. The em dash is left alone: it separates, where the others join words.
_PLAIN = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-")
)
_ARTICLE = re.compile(r"(?:the|an?)\s+(?=\S)")
# Not "#" or "+": they end names ("C#", "C++").
_CLOSING_MARKS = " \"'`*_.,;:!?\u2026\u3002\u061f\u060c\u061b"
_BRACKETS = {")": "(", "]": "[", "}": "{"}
# Scripts written without spaces, where a word ends without a mark.
_UNSPACED = ("CJK ", "HIRAGANA ", "KATAKANA", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ")


def normalise(text: str) -> str:
    """Bring a text to the form in which answers are compared.

    Args:
        text: A generated answer, a target or an alias.
    Returns:
        The text in NFKC, casefolded, with single spaces, without format characters, without quotes,
        punctuation and an English article in front, and without quotes and sentence marks at the end. What
        would leave nothing is not removed: "A" stays "a" and "?!" stays "?!".
    """
    return _without_article(_trimmed(_plain(text)))


def matches(text: str, answers: Iterable[str]) -> bool:
    """Say whether a generated text starts with one of the expected answers, at a word boundary.

    Args:
        text: The generated answer.
        answers: The target and its aliases.
    Returns:
        True when the normalised text starts with a normalised answer that ends there. A digit followed by a
        decimal or thousands mark and another digit, or a letter joined by a hyphen, continues the word.
    """
    return _opens_with(_plain(text), _forms(answers))


def contains(text: str, answers: Iterable[str]) -> bool:
    """Say whether one of the expected answers stands anywhere in a generated text, as whole words.

    Args:
        text: The generated answer.
        answers: The target and its aliases.
    Returns:
        True when `matches` would hold for the text from one of its words on. A word begins where the
        character before does not belong to it, by the rules by which it ends in `matches`: neither
        "Anglo-French" contains "French", nor "1,500" "500", nor "-5" "5".
    """
    forms, shown = _forms(answers), _plain(text)
    if not any(form in shown for form in forms):
        return False
    starts = (index for index in range(len(shown)) if _starts_word(shown, index))
    return any(_opens_with(shown[start:], forms) for start in starts)


def _forms(answers: Iterable[str]) -> set[str]:
    """What the text may start with: each answer with and without its article."""
    expected = (answers,) if isinstance(answers, str) else answers
    trimmed = {_trimmed(_plain(answer)) for answer in expected}
    return (trimmed | {_without_article(form) for form in trimmed}) - {""}


def _opens_with(plain: str, forms: Iterable[str]) -> bool:
    shown = _opened(plain)
    # With and without the article, on both sides: "The Hague" equals "Hague"; "A" is not lost in "A minor".
    texts = {shown, _without_article(shown)}
    return any(text.startswith(form) and _ends_word(text, len(form)) for text in texts for form in forms)


def _plain(text: str) -> str:
    # Casefolding can leave decomposed characters, hence NFKC on both sides of it.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_PLAIN)
    visible = "".join(char for char in folded if unicodedata.category(char) != "Cf")
    return " ".join(visible.split())


def _opened(text: str) -> str:
    """Drop quotes and punctuation in front, but no sign or decimal point of a number."""
    start = 0
    while start < len(text) and _is_opening(text, start):
        start += 1
    return text[start:] or text


def _is_opening(text: str, index: int) -> bool:
    char = text[index]
    if char in "-." and text[index + 1 : index + 2].isdigit():
        return False
    return char in " `" or unicodedata.category(char).startswith("P")


def _trimmed(text: str) -> str:
    """Drop what `_opened` drops, and closing quotes, sentence marks and unmatched brackets at the end."""
    kept = _opened(text)
    while kept and (kept[-1] in _CLOSING_MARKS or _is_unmatched(kept)):
        kept = kept[:-1]
    return kept or text


def _is_unmatched(text: str) -> bool:
    opener = _BRACKETS.get(text[-1])
    return opener is not None and opener not in text


def _without_article(text: str) -> str:
    article = _ARTICLE.match(text)
    if article is None:
        return text
    return _opened(text[article.end() :])


def _ends_word(text: str, end: int) -> bool:
    """Say whether a word ends at `end`, where at least one character lies before it."""
    if end == len(text):
        return True
    before, after, beyond = text[end - 1], text[end], text[end + 1 : end + 2]
    # A combining mark belongs to the character before it in every script.
    if unicodedata.category(after).startswith("M"):
        return False
    if before.isdigit() and (after.isdigit() or (after in ".,:/" and beyond.isdigit())):
        return False
    if _is_unspaced(before) or _is_unspaced(after):
        return True
    if after == "-" and beyond.isalnum():
        return False
    return not (before.isalnum() and (after.isalnum() or after in "_#+"))


def _starts_word(text: str, start: int) -> bool:
    """Say whether a word, or a mark in front of one, begins at `start`."""
    char, before, beyond = text[start], text[start - 1 : start], text[max(0, start - 2) : start - 1]
    if not before or before == " ":
        return True
    if char == " " or unicodedata.category(char).startswith("M"):
        return False
    if unicodedata.category(char).startswith("P"):
        # Of marks inside a text only a sign or a decimal point belongs to what follows.
        return char in "-." and not before.isalnum()
    if char.isdigit() and (before in "-." or (before in ",:/" and beyond.isdigit())):
        return False
    if _is_unspaced(before) or _is_unspaced(char):
        return True
    if before in "-_" and beyond.isalnum():
        return False
    return not (char.isalnum() and (before.isalnum() or unicodedata.category(before).startswith("M")))


def _is_unspaced(char: str) -> bool:
    return unicodedata.name(char, "").startswith(_UNSPACED)
