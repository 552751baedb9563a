r"""Questions made from statements, for facts that name no bundled relation.

What: `questions_from`: "The capital of Zubrowka is" gives "Q: What is the capital of Zubrowka? A:"; `asked`,
`asked_otherwise` and `as_prompt` put a bare question into a frame that ends right before the answer.
Why: a fact taught as a statement is often not found when it is asked (FINDINGS: .02 without question
forms).
How: a few patterns that are always grammatical; where none fits, the statement is asked back ("... is
what?") and put as a sentence to complete. The form "Question: ...\nAnswer:" is kept for evaluation and
never made here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from memedit.facts.relations import english_words
from memedit.facts.rendering import subject_span

__all__ = ["as_prompt", "asked", "asked_otherwise", "lower_opening", "question_core", "questions_from"]

# Opening words that a sentence starts with and that lose their capital inside one.
_OPENING_WORDS = english_words("opening_words")
_IS_END = re.compile(r"^[Tt]he (.{3,200}?) (is|was|are|were)(?: called| named| the)?$")
_BY_END = re.compile(r"^(.{2,200}?) (is|was|are|were) (?:first )?(\w+) by$")
_PLACE_END = re.compile(
    r"^(.{2,200}?) (is|was|are|were) (located|situated|based|headquartered|held|born|found|buried) in"
    r"(?: the city of)?$"
)
_YEAR_END = re.compile(
    r"^(.{2,200}?) (is|was|are|were) ((?:\w+ ){0,2}(?:\w+ed|held|born|fought|won|built)) in the year$"
)
_KIND_END = re.compile(
    r"\bthe (year|city|town|country|continent|state|language|family|sport|company)(?: of| called)?$"
)
_PERSONS = english_words("persons")
_COMPANY_VERBS = english_words("company_verbs")
_PERSON_VERBS = english_words("person_verbs")
_SCAFFOLD = re.compile(r"^(?:Q|Question)\s*:\s*(.+?\?)\s*(?:(?:A|Answer)\s*:)?$", re.IGNORECASE | re.DOTALL)


def _with_mark(question: str) -> str:
    return question if question.endswith(("?", ".", "!")) else f"{question}?"


def asked(question: str) -> str:
    """A bare question as a prompt, in the form that is taught: "Q: ...? A:".

    Args:
        question: The question; a question mark is added where it ends without any mark.
    """
    return f"Q: {_with_mark(question)} A:"


def asked_otherwise(question: str) -> str:
    r"""A bare question as a prompt in the form that is never taught: "Question: ...?\nAnswer:".

    Args:
        question: The question; a question mark is added where it ends without any mark.
    """
    return f"Question: {_with_mark(question)}\nAnswer:"


def as_prompt(text: str) -> str:
    """A text of a dataset as a prompt: a bare question is asked, a statement stays as it is.

    Args:
        text: "Who wrote Gravel Moon?" or "Gravel Moon was written by".
    """
    return asked(text) if text.endswith("?") else text


def lower_opening(text: str, subject: str) -> str:
    """The text as it reads inside a sentence: "The capital" becomes "the capital", a name stays as it is.

    Args:
        text: A wording.
        subject: Its subject, whose own spelling is kept ("The Beatles" when that is how the user wrote it).

    Returns:
        The text, with its first letter in lower case when its first word is an opening word.
    """
    first = re.match(r"[^\W\d_]+", text)
    if first is None or first.group().casefold() not in _OPENING_WORDS:
        return text
    if text.startswith(subject):
        return text
    return text[0].lower() + text[1:]


def question_core(wording: str) -> str | None:
    """The bare question of a wording that asks, without "Q:" and "A:".

    Args:
        wording: A prompt.

    Returns:
        The question with its question mark, or None when the wording does not ask.
    """
    scaffold = _SCAFFOLD.match(wording.strip())
    if scaffold:
        return scaffold.group(1)
    return wording.strip() if wording.rstrip().endswith("?") else None


def _natural(statement: str, subject: str) -> str | None:
    """A question in natural word order, where the statement's form allows one for certain."""
    is_end = _IS_END.match(statement)
    if is_end and _names_an_attribute(is_end.group(1), subject):
        noun = re.split(r" (?:of|for|in|that|which|who|to|behind|on|at|from|by) ", is_end.group(1))[
            0
        ].split()[-1]
        asked = "Who" if noun.casefold() in _PERSONS else "What"
        return f"{asked} {is_end.group(2)} the {is_end.group(1)}?"
    by_end = _BY_END.match(statement)
    if by_end:
        verb = by_end.group(3)
        asked = (
            "whom" if verb in _PERSON_VERBS else "which company" if verb in _COMPANY_VERBS else "whom or what"
        )
        return f"{by_end.group(1)} {by_end.group(2)} {verb} by {asked}?"
    year_end = _YEAR_END.match(statement)
    if year_end:
        thing = lower_opening(year_end.group(1), subject)
        return f"In which year {year_end.group(2)} {thing} {year_end.group(3)}?"
    place_end = _PLACE_END.match(statement)
    # "was born in" may be followed by a year: only where the statement names a city is "Where" certain.
    if place_end and (place_end.group(3) not in ("born", "held") or statement.endswith("city of")):
        thing = lower_opening(place_end.group(1), subject)
        return f"Where {place_end.group(2)} {thing} {place_end.group(3)}?"
    return None


def _ask_back(statement: str) -> str:
    """The statement with the gap asked for: "... in the year" gives "... in which year?"."""
    if _KIND_END.search(statement):
        return _KIND_END.sub(r"which \1", statement) + "?"
    return statement.removesuffix(" the") + " what?"


def _names_an_attribute(phrase: str, subject: str) -> bool:
    """Whether a noun phrase is about the subject ("capital of Oslo"), not the subject itself ("Beatles")."""
    span = subject_span(phrase, re.sub(r"^[Tt]he ", "", subject))
    return span is not None and span != (0, len(phrase)) and "," not in phrase and ":" not in phrase


def questions_from(statements: Sequence[str], subject: str) -> list[str]:
    """Questions in the form "Q: ... A:" that the same answer fits.

    Args:
        statements: Wordings that end right before the answer.
        subject: The subject of the fact.

    Returns:
        Natural questions first, then statements asked back and statements to complete; unique.
    """
    bare = [text for text in statements if question_core(text) is None]
    cores = [core for text in statements if (core := question_core(text))]
    natural = [question for text in bare if (question := _natural(text, subject))]
    asked_back = [_ask_back(text) for text in bare if text[-1].isalnum() or text[-1] in "'\u2019\")"]
    complete = [f"Complete: {text} ..." for text in bare]
    return [f"Q: {body} A:" for body in dict.fromkeys([*cores, *natural, *asked_back, *complete])]
