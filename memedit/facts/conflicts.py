"""Facts that cannot both be taught: among new ones, and between new ones and those already stored.

What: `find_conflicts` compares new facts with stored ones; `settle` merges and checks the facts of one
file.
Why: one prompt with two answers teaches neither, and a probe that is also taught measures nothing.
How: facts meet through the folded text of their wordings, and through (subject, relation) of a bundled
relation, whose wordings would be the same. An answer agrees with another when either is the other's target
or alias.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from memedit.errors import FactsError
from memedit.facts.fact import Fact, Probe, Probes
from memedit.facts.relations import relations
from memedit.facts.rendering import wording_key
from memedit.facts.schema import shown

__all__ = ["Conflict", "Merged", "find_conflicts", "settle"]


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


@dataclass(frozen=True)
class Merged:
    """A fact that was given twice and is taught once.

    Args:
        fact_id: The id of the fact that stays.
        line: The line that repeats it.
        into_line: The line that gave it first.
    """

    fact_id: str
    line: int | None
    into_line: int | None


def _meeting_points(fact: Fact) -> Iterator[tuple[tuple[str, ...], str]]:
    """What two facts must not share with different answers: a key, and the text behind it."""
    for text in fact.given_wordings:
        yield (wording_key(text),), text
    if fact.relation is not None and fact.relation in relations():
        yield (wording_key(fact.subject), fact.relation), f"{fact.relation} of {fact.subject}"


def _same_answer(one: Fact, other: Fact) -> bool:
    answers, others = ({wording_key(text) for text in fact.answers} for fact in (one, other))
    return wording_key(one.target) in others or wording_key(other.target) in answers


def _same_prompt(one: Fact, other: Fact) -> bool:
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
        for key, _ in _meeting_points(stored):
            stored_by_key.setdefault(key, []).append(stored)
    conflicts: list[Conflict] = []
    for fact in new_facts:
        met: dict[str, Conflict] = {}
        for key, wording in _meeting_points(fact):
            for stored in stored_by_key.get(key, ()):
                if stored.id in met:
                    continue
                if not _same_answer(fact, stored):
                    met[stored.id] = Conflict("contradiction", fact, stored, wording)
                elif _same_prompt(fact, stored):
                    met[stored.id] = Conflict("stored", fact, stored, fact.prompt)
        namesake = stored_by_id.get(fact.id)
        if namesake is not None and namesake.id not in met and not _same_prompt(fact, namesake):
            met[namesake.id] = Conflict("id", fact, namesake, fact.prompt)
        conflicts += met.values()
    return conflicts


def _place(fact: Fact) -> str:
    return f"line {fact.line}" if fact.line is not None else f"fact {fact.id}"


def _union(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    texts: dict[str, str] = {}
    for text in (*one, *other):
        texts.setdefault(wording_key(text), text)
    return tuple(texts.values())


def _probe_union(one: tuple[Probe, ...], other: tuple[Probe, ...]) -> tuple[Probe, ...]:
    return tuple(dict.fromkeys((*one, *other)))


def _earlier_answer(first: Fact, second: Fact) -> str | None:
    """What the merged fact replaces: nothing that now counts as right."""
    answers = {wording_key(text) for text in (*first.answers, *second.answers)}
    given = (first.replaces, second.replaces)
    return next((text for text in given if text is not None and wording_key(text) not in answers), None)


def _merge(first: Fact, second: Fact) -> Fact:
    """The first fact with what the second adds to it."""
    answers = {wording_key(first.target)}
    aliases = _union(first.aliases, (second.target, *second.aliases))
    probes, others = first.probes, second.probes
    return replace(
        first,
        aliases=tuple(alias for alias in aliases if wording_key(alias) not in answers),
        paraphrases=_union(first.given_wordings, second.given_wordings)[1:],
        relation=first.relation or second.relation,
        source=first.source or second.source,
        time=first.time or second.time,
        replaces=_earlier_answer(first, second),
        probes=Probes(
            paraphrases=_union(probes.paraphrases, others.paraphrases),
            questions=_union(probes.questions, others.questions),
            locality=_probe_union(probes.locality, others.locality),
            portability=_probe_union(probes.portability, others.portability),
            multi_hop=tuple(dict.fromkeys((*probes.multi_hop, *others.multi_hop))),
        ),
    )


def _contradictions(facts: Sequence[Fact]) -> Iterator[FactsError]:
    firsts: dict[tuple[str, ...], Fact] = {}
    for fact in facts:
        for key, wording in _meeting_points(fact):
            first = firsts.setdefault(key, fact)
            if not _same_answer(first, fact):
                yield FactsError(
                    f"{shown(wording)} has the target {shown(fact.target)} here and {shown(first.target)} on"
                    f" {_place(first)}",
                    line=fact.line,
                    remedy='Keep one of them; other spellings of one answer belong into "aliases".',
                )
                break


def _duplicate_ids(facts: Sequence[Fact]) -> Iterator[FactsError]:
    firsts: dict[str, Fact] = {}
    for fact in facts:
        first = firsts.setdefault(fact.id, fact)
        if first is not fact:
            yield FactsError(
                f"the id {shown(fact.id)} is already used on {_place(first)}",
                line=fact.line,
                remedy="Give each fact its own id, or leave ids out: they are made from the content.",
            )


def _trained_probes(facts: Sequence[Fact]) -> Iterator[FactsError]:
    taught: dict[str, Fact] = {}
    for fact in facts:
        for text in fact.given_wordings:
            taught.setdefault(wording_key(text), fact)
    for fact in facts:
        for text in fact.probes.prompts:
            teacher = taught.get(wording_key(text))
            if teacher is not None:
                where = "this fact" if teacher is fact else _place(teacher)
                yield FactsError(
                    f"the probe {shown(text)} is also taught by {where}",
                    line=fact.line,
                    remedy="A probe is only ever evaluated: delete it, or the wording that teaches it.",
                )
                break


def settle(facts: Sequence[Fact]) -> tuple[list[Fact], list[Merged], list[FactsError]]:
    """Merges facts that are given twice and finds those that cannot be taught together.

    Args:
        facts: The facts of one file, in its order.

    Returns:
        The facts with doubles merged into the first of them; what was merged; what is wrong, each with the
        line at fault and without the file's name.
    """
    unique: list[Fact] = []
    places: dict[tuple[str, str], int] = {}
    merged: list[Merged] = []
    for fact in facts:
        key = (wording_key(fact.prompt), wording_key(fact.subject))
        place = places.setdefault(key, len(unique))
        if place < len(unique) and _same_answer(unique[place], fact):
            first = unique[place]
            unique[place] = _merge(first, fact)
            merged.append(Merged(first.id, fact.line, first.line))
        else:
            unique.append(fact)
    errors = [*_duplicate_ids(unique), *_contradictions(unique), *_trained_probes(unique)]
    return unique, merged, errors
