"""Facts that cannot both be taught: where two facts meet, and what stands between new ones and stored ones.

What: `find_conflicts` compares new facts with stored ones; `meeting_points` and `same_answer` are what it and
`settling`, which compares the facts of one file, have in common.
Why: one prompt with two answers teaches neither.
How: facts meet through the folded text of their wordings, and through (subject, relation) of a bundled
relation, whose wordings would be the same. An answer agrees with another when either is the other's target
or alias.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from memedit.facts.checked_values import shown
from memedit.facts.fact import Fact
from memedit.facts.relations import relations
from memedit.facts.rendering import wording_key

__all__ = ["Conflict", "find_conflicts", "meeting_points", "same_answer", "same_prompt"]


@dataclass(frozen=True)
class Conflict:
    """A new fact that meets a stored one.

    Args:
        kind: "stored": the same prompt and answer are stored already; "contradiction": the same wording, or
            subject and relation, with another answer; "id": the same id for another fact.
        fact: The new fact.
        stored: The stored fact.
        wording: What both have in common, as the new fact writes it.
    """

    kind: Literal["stored", "contradiction", "id"]
    fact: Fact
    stored: Fact
    wording: str

    @property
    def message(self) -> str:
        """One sentence for the user."""
        where = f"line {self.fact.line}: " if self.fact.line is not None else ""
        if self.kind == "stored":
            return f"{where}{shown(self.wording)} -> {shown(self.fact.target)} is stored ({self.stored.id})"
        if self.kind == "id":
            return f"{where}the id {self.fact.id} is already used for {shown(self.stored.prompt)}"
        return (
            f"{where}{shown(self.wording)} -> {shown(self.fact.target)} contradicts the stored fact"
            f" {self.stored.id}, whose answer is {shown(self.stored.target)}"
        )


def meeting_points(fact: Fact) -> Iterator[tuple[tuple[str, ...], str]]:
    """What two facts must not share with different answers.

    Args:
        fact: The fact.

    Yields:
        A key, and the text behind it as the fact writes it.
    """
    for text in fact.given_wordings:
        yield (wording_key(text),), text
    if fact.relation is not None and fact.relation in relations():
        yield (wording_key(fact.subject), fact.relation), f"{fact.relation} of {fact.subject}"


def same_answer(one: Fact, other: Fact) -> bool:
    """Whether the target of either is an answer of the other."""
    answers, others = ({wording_key(text) for text in fact.answers} for fact in (one, other))
    return wording_key(one.target) in others or wording_key(other.target) in answers


def same_prompt(one: Fact, other: Fact) -> bool:
    """Whether both have one prompt, but for case and spacing."""
    return wording_key(one.prompt) == wording_key(other.prompt)


def find_conflicts(new_facts: Sequence[Fact], stored_facts: Iterable[Fact]) -> list[Conflict]:
    """What stands between new facts and the facts that a store holds.

    Args:
        new_facts: Facts to teach.
        stored_facts: Facts of the active edits.

    Returns:
        At most one conflict for each pair of facts, in the order of the new facts.
    """
    stored_by_key: dict[tuple[str, ...], list[Fact]] = {}
    stored_by_id: dict[str, Fact] = {}
    for stored in stored_facts:
        stored_by_id[stored.id] = stored
        for key, _ in meeting_points(stored):
            stored_by_key.setdefault(key, []).append(stored)
    conflicts: list[Conflict] = []
    for fact in new_facts:
        met: dict[str, Conflict] = {}
        for key, wording in meeting_points(fact):
            for stored in stored_by_key.get(key, ()):
                if stored.id in met:
                    continue
                if not same_answer(fact, stored):
                    met[stored.id] = Conflict("contradiction", fact, stored, wording)
                elif same_prompt(fact, stored):
                    met[stored.id] = Conflict("stored", fact, stored, fact.prompt)
        namesake = stored_by_id.get(fact.id)
        if namesake is not None and namesake.id not in met and not same_prompt(fact, namesake):
            met[namesake.id] = Conflict("id", fact, namesake, fact.prompt)
        conflicts += met.values()
    return conflicts
