"""From fact to text: where the answer is joined, where the subject stands, how a template is filled.

What: `join`, `fill`, `subject_span`, `mention_span` and `wording_key`.
Why: training, evaluation and the terminal must agree to the character on what the model reads.
How: plain string rules. Prompts carry no space at their end; the answer brings it, except where writing has
none.
"""

from __future__ import annotations

import re
import unicodedata

from memedit.facts.relations import english_words

__all__ = ["fill", "join", "mention_span", "subject_span", "with_article", "wording_key"]

_OPENING = "([{<\"'\u2018\u201c\u00ab\u2039\u201e\u201a\u300c\u300e\u3010\u3008\u300a\u00bf\u00a1"
_STRAIGHT = "\"'"
# Scripts that put no space between words: Thai to Lao, Tibetan, Burmese, Khmer, kana, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff01-\uff60\U00020000-\U0003ffff]"
)
# A first word that a sentence may capitalise; "iPhone 15" and "k.d. lang" stay as they are, even in front.
_PLAIN_LOWER = re.compile(r"^[^\W\d_A-Z]+(?![\w.])")
# "the river {}" is followed by a name without its article; "the author of {}" by one with it.
_AFTER_NOUN = re.compile(r"\bthe (?:[a-z]+ )?([a-z]+) $", re.IGNORECASE)
_NOT_A_NOUN = english_words("no_nouns")
_WORD_START, _WORD_END = r"(?<!\w)", r"(?!\w)"
_SMALL_WORDS = english_words("small_words")


def _opens_quote(prompt: str) -> bool:
    last = prompt[-1]
    if last not in _STRAIGHT:
        return last in _OPENING
    # A straight quote opens only when a space (or nothing) stands before it: `called "`, but not `"Dune"`.
    return len(prompt) == 1 or prompt[-2].isspace() or prompt[-2] in _OPENING


def join(prompt: str, target: str) -> str:
    """The text of a prompt with its answer.

    Args:
        prompt: Text that ends right before the answer.
        target: The answer.

    Returns:
        `prompt + " " + target`; without the space when the prompt is empty, ends with whitespace or an
        opening quote or bracket, or when both sides of the seam are in a script written without spaces.
    """
    if not prompt or prompt[-1].isspace() or _opens_quote(prompt):
        return prompt + target
    if target and _UNSPACED.match(prompt[-1]) and _UNSPACED.match(target[0]):
        return prompt + target
    return f"{prompt} {target}"


def fill(template: str, subject: str) -> str:
    """A template with the subject in the place of "{}".

    The first letter of the text is made upper-case, and a leading "the" of the subject is dropped behind
    a noun ("the river {}" with "the Danube" gives "the river Danube").

    Args:
        template: Text with one "{}".
        subject: What to put there.

    Returns:
        The filled text.
    """
    before, _, after = template.partition("{}")
    noun = _AFTER_NOUN.search(before)
    if noun and noun.group(1).casefold() not in _NOT_A_NOUN:
        # A capital "The" belongs to a title: "the painting The Scream".
        subject = subject.removeprefix("the ")
    in_front = not before or before.endswith(("Q: ", "Question: "))
    if in_front and _PLAIN_LOWER.match(subject):
        subject = subject[0].upper() + subject[1:]
    return before + subject + after


def with_article(prompt: str, subject: str) -> str:
    """The subject as templates need it: with "the" when that is how the prompt speaks of it.

    Args:
        prompt: A given wording: "The family of the capybara is".
        subject: The subject without its article: "capybara".

    Returns:
        "the capybara"; the subject itself when the prompt has no article in front of it.
    """
    span = subject_span(prompt, subject)
    if span is None or not re.search(r"\b[Tt]he\s+$", prompt[: span[0]]):
        return subject
    return f"the {subject}"


def _whole(words: list[str]) -> str:
    return _WORD_START + r"\s+".join(re.escape(word) for word in words) + _WORD_END


def _last(pattern: str, text: str, flags: int = 0) -> tuple[int, int] | None:
    span = None
    for match in re.finditer(pattern, text, flags):
        span = match.span()
    return span


def subject_span(prompt: str, subject: str) -> tuple[int, int] | None:
    """Where the subject stands in the prompt.

    Whole words come before parts of words, and the exact spelling before another case; a part of a word
    counts only at the word's beginning (endings: "Budapesten") or in scripts without capitals.

    Args:
        prompt: The text to search.
        subject: What to find; runs of whitespace match each other.

    Returns:
        Start and end (exclusive) of the LAST occurrence in characters, or None.
    """
    words = subject.split()
    if not words:
        return None
    whole = _whole(words)
    part = whole.removesuffix(_WORD_END)
    if subject.lower() == subject.upper() and any(letter.isalpha() for letter in subject):
        part = part.removeprefix(_WORD_START)
    return _last(whole, prompt) or _last(whole, prompt, re.IGNORECASE) or _last(part, prompt)


def _initials(words: list[str]) -> str:
    return "".join(word[0] for word in words if word.casefold() not in _SMALL_WORDS)


def mention_span(prompt: str, subject: str) -> tuple[int, int] | None:
    """Where the subject, or a short form of it, stands in the prompt.

    Short forms are the name without its article, a part of it that is a name by itself ("Einstein" for
    "Albert Einstein"; longest part first, later parts before earlier ones), and its initials ("UN").

    Args:
        prompt: The text to search.
        subject: What to find.

    Returns:
        Start and end (exclusive) of the last occurrence in characters, or None.
    """
    span = subject_span(prompt, subject)
    if span is not None:
        return span
    words = subject.split()
    for size in range(len(words) - 1, 0, -1):
        for start in range(len(words) - size, -1, -1):
            part = words[start : start + size]
            if not any(_is_name(word) for word in part) or not (_is_name(part[-1]) and _is_name(part[0])):
                continue
            span = _last(_whole(part), prompt)
            if span is not None:
                return span
    initials = _initials(words)
    return _last(_whole([initials]), prompt) if len(initials) > 1 else None


def _is_name(word: str) -> bool:
    return len(word) > 2 and word.casefold() not in _SMALL_WORDS and (word != word.lower() or word.isdigit())


def wording_key(text: str) -> str:
    """What two wordings share when they differ only in case, Unicode form or spacing.

    Args:
        text: A prompt or an answer.

    Returns:
        The text folded for comparison; never shown.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())
