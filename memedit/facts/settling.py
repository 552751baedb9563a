"""The facts of one file, made to agree: doubles become one, contradictions are found.

What: `Settlement` takes facts one group after another and refuses what contradicts those before; `settle`
does it for a list; `without_taught_probes` takes out probes that are also taught.
Why: one prompt with two answers teaches neither, and a probe that is also taught measures nothing.
How: facts meet as in `conflicts`; whatever comes first stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from memedit.errors import FactsError
from memedit.facts.checked_values import shown
from memedit.facts.conflicts import meeting_points, same_answer
from memedit.facts.fact import Fact, MultiHop, Probe, Probes
from memedit.facts.rendering import wording_key

__all__ = ["Merged", "Settlement", "TaughtProbe", "settle", "taught_probe_problems", "without_taught_probes"]


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


@dataclass(frozen=True)
class TaughtProbe:
    """A probe that was left out, since a fact teaches it.

    Args:
        fact_id: The fact that it belonged to.
        prompt: What it asked.
        taught_by: The id of the fact that teaches it; may be the same.
    """

    fact_id: str
    prompt: str
    taught_by: str


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


class Settlement:
    """Facts that agree, in the order in which they were taken; doubles are merged into the first of them."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.merged: list[Merged] = []
        self._places: dict[tuple[str, str], int] = {}
        self._met: dict[tuple[str, ...], int] = {}
        self._by_id: dict[str, int] = {}

    def take(self, group: Sequence[Fact]) -> FactsError | None:
        """Take facts that stand or fall together.

        Args:
            group: The facts of one record.

        Returns:
            None when all were taken; else why none of them was, with the line at fault and without the file's
            name.
        """
        trial = Settlement() if len(group) > 1 else None
        for fact in group:
            problem = self._problem(fact) or (trial.take((fact,)) if trial else None)
            if problem:
                return problem
        for fact in group:
            self._add(fact)
        return None

    def _double(self, fact: Fact) -> int | None:
        """Where the fact is already, if it is."""
        place = self._places.get((wording_key(fact.prompt), wording_key(fact.subject)))
        return place if place is not None and same_answer(self.facts[place], fact) else None

    def _problem(self, fact: Fact) -> FactsError | None:
        double = self._double(fact)
        namesake = self._by_id.get(fact.id)
        if namesake is not None and double is None:
            return FactsError(
                f"the id {shown(fact.id)} is already used on {_place(self.facts[namesake])}",
                line=fact.line,
                field="id",
                remedy="Give each fact its own id, or leave ids out: they are made from the content.",
            )
        for key, wording in meeting_points(fact):
            place = self._met.get(key)
            if place is not None and place != double and not same_answer(self.facts[place], fact):
                first = self.facts[place]
                return FactsError(
                    f"{shown(wording)} has the target {shown(fact.target)} here and {shown(first.target)} on"
                    f" {_place(first)}",
                    line=fact.line,
                    field="target",
                    remedy='Keep one of them; other spellings of one answer belong into "aliases".',
                )
        return None

    def _add(self, fact: Fact) -> None:
        place = self._double(fact)
        if place is None:
            place = len(self.facts)
            self.facts.append(fact)
            self._places.setdefault((wording_key(fact.prompt), wording_key(fact.subject)), place)
            self._by_id[fact.id] = place
        else:
            first = self.facts[place]
            self.facts[place] = _merge(first, fact)
            self.merged.append(Merged(first.id, fact.line, first.line))
        for key, _ in meeting_points(fact):
            self._met.setdefault(key, place)


def _taught(facts: Iterable[Fact]) -> dict[str, Fact]:
    taught: dict[str, Fact] = {}
    for fact in facts:
        for text in fact.given_wordings:
            taught.setdefault(wording_key(text), fact)
    return taught


def taught_probe_problems(facts: Sequence[Fact]) -> Iterator[FactsError]:
    """What is wrong with probes that are also taught, one problem for a fact.

    Args:
        facts: Facts that agree.
    """
    taught = _taught(facts)
    for fact in facts:
        for text in fact.probes.prompts:
            teacher = taught.get(wording_key(text))
            if teacher is not None:
                where = "this fact" if teacher is fact else _place(teacher)
                yield FactsError(
                    f"the probe {shown(text)} is also taught by {where}",
                    line=fact.line,
                    field="probes",
                    remedy="A probe is only ever evaluated: delete it, or the wording that teaches it.",
                )
                break


def without_taught_probes(facts: Sequence[Fact]) -> tuple[list[Fact], list[TaughtProbe]]:
    """Facts whose probes ask only what none of the facts teaches.

    Args:
        facts: Facts that agree.

    Returns:
        The facts, and the probes that were taken out of them.
    """
    taught = _taught(facts)
    left_out: list[TaughtProbe] = []

    def kept(fact: Fact) -> Fact:
        def is_free(text: str) -> bool:
            teacher = taught.get(wording_key(text))
            if teacher is not None:
                left_out.append(TaughtProbe(fact.id, text, teacher.id))
            return teacher is None

        def hop(question: MultiHop) -> MultiHop:
            return replace(question, prompts=tuple(filter(is_free, question.prompts)))

        probes = fact.probes
        return replace(
            fact,
            probes=Probes(
                paraphrases=tuple(filter(is_free, probes.paraphrases)),
                questions=tuple(filter(is_free, probes.questions)),
                locality=tuple(probe for probe in probes.locality if is_free(probe.prompt)),
                portability=tuple(probe for probe in probes.portability if is_free(probe.prompt)),
                multi_hop=tuple(question for question in map(hop, probes.multi_hop) if question.prompts),
            ),
        )

    settled = [
        kept(fact) if any(wording_key(text) in taught for text in fact.probes.prompts) else fact
        for fact in facts
    ]
    return settled, left_out


def settle(facts: Sequence[Fact]) -> tuple[list[Fact], list[Merged], list[FactsError]]:
    """Merges facts that are given twice and finds those that cannot be taught together.

    Args:
        facts: The facts of one file, in its order.

    Returns:
        The facts with doubles merged into the first of them; what was merged; what is wrong, each with the
        line at fault and without the file's name.
    """
    settlement = Settlement()
    problems = [problem for fact in facts if (problem := settlement.take((fact,)))]
    return settlement.facts, settlement.merged, [*problems, *taught_probe_problems(settlement.facts)]
