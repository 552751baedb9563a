"""Single values of a record, checked: texts, lists of texts, keys.

What: `checked_text`, `checked_items`, `checked_texts`, `check_keys`, and how messages show values.
Why: every mistake must be named with the key, what was found and what to write instead, in every format.
How: text is stripped and brought to Unicode form NFC, so that two ways to write an accent are one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from memedit.errors import FactsError
from memedit.facts.relations import closest
from memedit.facts.rendering import wording_key

__all__ = [
    "MAX_CHARS",
    "MAX_ITEMS",
    "MAX_PROBES",
    "check_keys",
    "checked_items",
    "checked_text",
    "checked_texts",
    "kind_of",
    "meant_key",
    "shown",
]

MAX_CHARS = 1_000
MAX_ITEMS = 200
# Probes of doubles are put together, and a dataset may ask hundreds of questions about one fact.
MAX_PROBES = 10_000
_MEANT = {
    "object": "target",
    "answer": "target",
    "label": "target",
    "completion": "target",
    "output": "target",
    "target_new": "target",
    "target_true": "replaces",
    "ground_truth": "replaces",
    "old": "replaces",
    "question": "prompt",
    "text": "prompt",
    "input": "prompt",
    "rephrase": "paraphrases",
    "rephrases": "paraphrases",
    "phrasings": "paraphrases",
    "entity": "subject",
    "predicate": "relation",
    "answers": "aliases",
    "synonyms": "aliases",
    "date": "time",
    "year": "time",
    "url": "source",
    "reference": "source",
    "neighborhood": "locality",
    "generality": "paraphrases",
    "rephrasings": "paraphrases",
}
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def shown(value: object) -> str:
    """A value as an error message shows it: in quotes, escaped, cut to 60 characters."""
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def meant_key(key: str, known: Sequence[str]) -> str | None:
    """The known key that an unknown one most likely stands for.

    Args:
        key: What was written.
        known: The keys there are.

    Returns:
        Another dataset's word for it, or the nearest spelling; None when there is none.
    """
    meant = _MEANT.get(key.casefold())
    return meant if meant in known else closest(key, known)


def check_keys(record: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse unknown keys.

    Args:
        record: The object.
        known: The keys that it may have.
        where: Where it stands, for the message: " in probes".

    Raises:
        FactsError: When there are others, with what was probably meant.
    """
    unknown = [key for key in record if key not in known]
    if not unknown:
        return
    hints = []
    for key in unknown[:5]:
        near = meant_key(str(key), known)
        hints.append(f"{shown(key)} (did you mean {near!r}?)" if near else shown(key))
    plural = "s" if len(unknown) > 1 else ""
    raise FactsError(
        f"unknown key{plural} {', '.join(hints)}{where}", remedy=f"Known keys: {', '.join(known)}."
    )


def checked_text(value: object, key: str, *, one_line: bool = False) -> str:
    """A text as it is kept: stripped and in Unicode form NFC.

    Args:
        value: What the record holds.
        key: Its name, for the message.
        one_line: Refuse line breaks.

    Returns:
        The text, 1 to `MAX_CHARS` characters.

    Raises:
        FactsError: When it is no text, empty, too long, or holds characters that are no text.
    """
    if not isinstance(value, str):
        raise FactsError(
            f"{key} must be a string, got {kind_of(value)}",
            field=key,
            remedy=f'Write it in quotes, for example "{key}": "...".',
        )
    bad = _CONTROLS.search(value)
    if bad:
        raise FactsError(
            f"{key} holds the character U+{ord(bad.group()):04X}, which is no text",
            field=key,
            remedy="Delete that character.",
        )
    text = unicodedata.normalize("NFC", value).strip().strip("\ufeff").strip()
    if not text:
        state = "empty" if not value else "empty after stripping"
        raise FactsError(
            f"{key} is {state}", field=key, remedy=f"Write a text for {key}, or delete the line."
        )
    if len(text) > MAX_CHARS:
        raise FactsError(
            f"{key} has {len(text):,} characters; at most {MAX_CHARS:,} are allowed",
            field=key,
            remedy="Shorten it, or teach a long text as several facts.",
        )
    if one_line and len(text.splitlines()) > 1:
        raise FactsError(
            f"{key} has a line break: {shown(text)}",
            field=key,
            remedy=f"Write {key} in one line; an answer ends at a line break.",
        )
    return text


def kind_of(value: object) -> str:
    """What a value is, as an error message says it: "a list", "the number 3"."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(
        type(value), f"the number {value}" if isinstance(value, int | float) else type(value).__name__
    )


def checked_items(
    record: Mapping[str, Any], key: str, where: str = "", *, most: int = MAX_ITEMS
) -> list[Any]:
    """A list of the record; empty where there is none.

    Args:
        record: The object.
        key: Its key.
        where: What stands in front of the key in messages: "probes.".
        most: How many entries it may have.

    Raises:
        FactsError: When it is no list or too long.
    """
    value = record.get(key)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise FactsError(
            f"{where}{key} must be a list, got {kind_of(value)}",
            field=f"{where}{key}",
            remedy=f'Write "{key}": ["...", "..."].',
        )
    if len(value) > most:
        raise FactsError(
            f"{where}{key} has {len(value):,} entries; at most {most:,} are allowed",
            field=f"{where}{key}",
            remedy="Keep the best ones.",
        )
    return list(value)


def checked_texts(
    record: Mapping[str, Any], key: str, where: str = "", *, one_line: bool = False, most: int = MAX_ITEMS
) -> tuple[str, ...]:
    """A list of texts without doubles; empty where there is none.

    Args:
        record: The object.
        key: Its key.
        where: What stands in front of the key in messages: "probes.".
        one_line: Refuse line breaks.
        most: How many entries it may have.

    Raises:
        FactsError: When it is no list of texts.
    """
    texts = [
        checked_text(item, f"{where}{key}[{number}]", one_line=one_line)
        for number, item in enumerate(checked_items(record, key, where, most=most))
    ]
    unique: dict[str, str] = {}
    for text in texts:
        unique.setdefault(wording_key(text), text)
    return tuple(unique.values())
