"""Choosing facts that the base model does not know, and others that it does.

What: `Replies`, the base model's answers kept on disk; `Chooser`, which takes facts of each origin up to its
quota. Why: learning is worth nothing on facts that were known, and asking ten thousand takes many minutes, so
a killed run goes on where it stopped.
How: two wordings of each candidate are asked; it is unknown when no answer is anywhere in either reply, and
known when the reply to its prompt starts with one. Candidates are asked in small portions, only as far as the
quota needs them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fact_split import Candidate

from memedit.errors import FactsError
from memedit.evaluation.matching import contains, matches
from memedit.facts.fact import Fact
from memedit.facts.reading import facts_from_records
from memedit.facts.rendering import wording_key
from memedit.facts.settling import Settlement

PORTION = 512  # prompts that are asked before their replies are written
MARGIN = 1.25  # candidates that are asked for each fact that is missing
MAX_WORDS = 8  # the longest subject that is looked for in a locality probe


class Asked(Protocol):
    """A model that answers prompts."""

    def ask(self, prompts: Iterable[str]) -> dict[str, str]:
        """Greedy replies, by prompt."""
        ...


class Replies:
    """The base model's replies, kept in a file of JSON lines."""

    def __init__(self, path: Path, base: Asked | None) -> None:
        """Read what was asked before.

        Args:
            path: The file; it need not exist.
            base: Whom to ask; None asks nobody, and every fact passes for unknown.
        """
        self.path, self.base = path, base
        self.num_new = 0
        self._known: dict[str, str] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        self._known.update(json.loads(line) for line in whole.splitlines())
        if whole != text:  # the last line of a killed run is torn
            path.write_text(whole, encoding="utf-8", newline="\n")

    def fetch(self, prompts: Iterable[str]) -> None:
        """Ask what was not asked before."""
        if self.base is None:
            return
        missing = [text for text in dict.fromkeys(prompts) if text not in self._known]
        for start in range(0, len(missing), PORTION):
            new = self.base.ask(missing[start : start + PORTION])
            text = "".join(json.dumps([prompt, reply]) + "\n" for prompt, reply in new.items())
            with self.path.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
            self._known.update(new)
            self.num_new += len(new)
            print(f"  {len(self._known):,} replies", flush=True)

    def is_unknown(self, one: Candidate) -> bool:
        """Whether no answer stands anywhere in the replies."""
        return self.base is None or not any(
            contains(self._known[text], one.answers) for text in wordings_asked(one)
        )

    def is_known(self, one: Candidate) -> bool:
        """Whether the reply to the prompt starts with an answer."""
        return self.base is not None and matches(self._known[one.row["prompt"]], one.answers)


def wordings_asked(one: Candidate) -> list[str]:
    """The prompt and one other wording: a statement where there is one, since small models answer these."""
    probes = one.row.get("probes", {})
    kinds = (one.row.get("paraphrases", ()), probes.get("paraphrases", ()), probes.get("questions", ()))
    return [one.row["prompt"], *[text for texts in kinds for text in texts][:1]]


class Chooser:
    """Takes facts that agree with each other, no subject twice."""

    def __init__(self, replies: Replies, taken: Iterable[str]) -> None:
        """Start with nothing chosen.

        Args:
            replies: What the base model says.
            taken: Folded subjects that must not be taken.
        """
        self.replies = replies
        self.chosen: list[Candidate] = []
        self.known: list[Candidate] = []
        self.num_asked: Counter[str] = Counter()
        self._subjects = set(taken)
        self._settlement = Settlement()

    def take(self, candidates: Sequence[Candidate], num: int) -> int:
        """Take up to `num` unknown facts of a list, in its order.

        Returns:
            How many are missing.
        """
        rest = list(candidates)
        while num > 0 and rest:
            size = int(num * MARGIN) + 8
            portion, rest = rest[:size], rest[size:]
            portion = [one for one in portion if one.subject not in self._subjects]
            self._ask(portion)
            for one in portion:
                if num > 0 and self._takes(one):
                    num -= 1
        return num

    def _ask(self, portion: Sequence[Candidate]) -> None:
        self.replies.fetch(text for one in portion for text in wordings_asked(one))
        self.num_asked.update(one.origin for one in portion)

    def _takes(self, one: Candidate) -> bool:
        if one.subject in self._subjects:
            return False
        if not self.replies.is_unknown(one):
            if self.replies.is_known(one):
                self.known.append(one)
            return False
        try:
            if self._settlement.take(facts_from_records([one.row])):
                return False
        except FactsError:  # a source's record that memedit's format refuses is no candidate
            return False
        self._subjects.add(one.subject)
        self.chosen.append(one)
        return True

    def add_known(self, candidates: Sequence[Candidate], num: int) -> None:
        """Ask further candidates of one origin until `num` of that origin are known or all were asked."""
        rest = [one for one in candidates if one.subject not in self._subjects]
        while self.replies.base is not None and rest and self._num_known(rest[0].origin) < num:
            portion, rest = rest[:PORTION], rest[PORTION:]
            self.replies.fetch(one.row["prompt"] for one in portion)
            self.known += [one for one in portion if self.replies.is_known(one)]

    def _num_known(self, origin: str) -> int:
        return len({one.subject for one in self.known if one.origin == origin} - self._subjects)

    def known_apart(self, most: Mapping[str, int]) -> list[Candidate]:
        """Known facts about subjects that are not taught, each subject once.

        Args:
            most: How many of an origin; any number of those that are not named.
        """
        apart: dict[str, Candidate] = {}
        counts: Counter[str] = Counter()
        for one in self.known:
            is_new = one.subject not in self._subjects and one.subject not in apart
            if is_new and counts[one.origin] < most.get(one.origin, len(self.known)):
                apart[one.subject] = one
                counts[one.origin] += 1
        return list(apart.values())


def as_facts(chosen: Iterable[Candidate]) -> list[Fact]:
    """The chosen facts as a facts file has them, without probes that would be no probes.

    A held-out wording that some fact teaches is left out, and so is a locality probe that speaks of another
    taught subject: teaching may rightly change its answer.
    """
    rows = [{key: value for key, value in one.row.items() if value} for one in chosen]
    taught = {wording_key(text) for row in rows for text in (row["prompt"], *row.get("paraphrases", ()))}
    subjects = {wording_key(row["subject"]) for row in rows}
    return facts_from_records(
        {**row, "probes": _clean(row.get("probes", {}), taught, subjects - {wording_key(row["subject"])})}
        for row in rows
    )


def _clean(
    probes: Mapping[str, Sequence[object]], taught: set[str], others: set[str]
) -> dict[str, list[object]]:
    """The probes that no fact teaches, and of locality those that speak of no other taught subject."""
    kept: dict[str, list[object]] = {}
    for name, values in probes.items():
        left = [value for value in values if wording_key(_prompt(value)) not in taught]
        kept[name] = [value for value in left if name != "locality" or not _speaks_of(_prompt(value), others)]
    return {name: values for name, values in kept.items() if values}


def _prompt(probe: object) -> str:
    return str(probe["prompt"]) if isinstance(probe, Mapping) else str(probe)


def _speaks_of(prompt: str, subjects: set[str]) -> bool:
    words = re.sub(r"[?,]|'s\b", " ", wording_key(prompt)).split()
    pieces = (
        " ".join(words[start : start + size])
        for size in range(1, MAX_WORDS + 1)
        for start in range(len(words) - size + 1)
    )
    return any(piece in subjects for piece in pieces)
