"""What is bundled: how common relations are said and asked, neutral sentences, and lists of English words.

What: `relations()`, `context_sentences()` and `english_words()`, read once from memedit/facts/data.
Why: a fact taught in one wording is not learned; a user who gives (subject, relation, target) should not
have to write ten of them.
How: JSON and text files in the package, so that a pull request can add a relation without code.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

__all__ = ["Relation", "closest", "context_sentences", "english_words", "relations"]


@dataclass(frozen=True)
class Relation:
    """How one relation is worded; "{}" stands for the subject.

    Args:
        name: For example "capital_of".
        statements: Texts that end right before the target; taught.
        questions: "Q: ... A:" texts; taught.
        probe_paraphrases: Statements that are only ever evaluated.
        probe_questions: Questions that are only ever evaluated.
    """

    name: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    probe_paraphrases: tuple[str, ...]
    probe_questions: tuple[str, ...]


def _read_data(name: str) -> str:
    return files("memedit.facts").joinpath("data").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def relations() -> Mapping[str, Relation]:
    """The bundled relations by name, read-only."""
    table = json.loads(_read_data("relations.json"))
    return MappingProxyType(
        {
            name: Relation(
                name=name,
                statements=tuple(entry["statements"]),
                questions=tuple(entry["questions"]),
                probe_paraphrases=tuple(entry["probes"]["paraphrases"]),
                probe_questions=tuple(entry["probes"]["questions"]),
            )
            for name, entry in table.items()
        }
    )


@functools.cache
def context_sentences() -> tuple[str, ...]:
    """Short neutral sentences, each a full sentence with its full stop."""
    return tuple(line.strip() for line in _read_data("contexts.txt").splitlines() if line.strip())


@functools.cache
def _word_lists() -> Mapping[str, frozenset[str]]:
    return {name: frozenset(words) for name, words in json.loads(_read_data("english.json")).items()}


def english_words(name: str) -> frozenset[str]:
    """One of the bundled lists of lower-case words, for example "particles".

    Args:
        name: A key of memedit/facts/data/english.json.

    Returns:
        The words of the list.
    """
    return _word_lists()[name]


def closest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that a mistyped name most likely meant.

    Args:
        name: What was typed.
        choices: What would have been right.

    Returns:
        One of the choices, or None when none is near.
    """
    by_folded = {choice.casefold().replace("-", "_").replace(" ", "_"): choice for choice in choices}
    folded = name.casefold().strip().replace("-", "_").replace(" ", "_")
    if folded in by_folded:
        return by_folded[folded]
    near = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.7)
    if near:
        return by_folded[near[0]]
    partial = [whole for whole in by_folded if len(folded) > 2 and (folded in whole or whole in folded)]
    return by_folded[min(partial, key=len)] if partial else None
