"""Which half of the facts a subject belongs to: "test" (four fifths) or "dev", and what order facts come in.

What: `side_of`, `shuffled` and the words of a subject that tell it from others.
Why: a setting that was tuned on a name must not be tested on it, nor on its namesakes.
How: a hash of the subject's last distinctive word (the surname of a person), so that the side never depends
on how many facts are wanted, on the seed or on the other facts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memedit.facts.relations import english_words
from memedit.facts.rendering import wording_key

Row = dict[str, Any]
Split = Literal["test", "dev"]

NUM_SHARES = 5  # one of them is the development set
_PLAIN = english_words("kinds") | english_words("small_words") | english_words("function_words")


@dataclass(frozen=True)
class Candidate:
    """A fact that may be taken, as a line of a facts file, with the table that it is from.

    Attributes:
        origin: "places", "counterfact", "zsre", "knowedit", "handwritten" or "made_up".
        row: the fact's native keys.
    """

    origin: str
    row: Row

    @property
    def subject(self) -> str:
        """The subject, folded for comparison and without its article."""
        return wording_key(self.row["subject"]).removeprefix("the ")

    @property
    def answers(self) -> list[str]:
        """Everything that counts as right."""
        return [self.row["target"], *self.row.get("aliases", ())]


def fact_id(origin: str, subject: str, prompt: str) -> str:
    """A readable id, the same for the same fact in every file."""
    slug = re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:40]
    return f"{origin.replace('_', '-')}-{slug}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"


def own_words(subject: str) -> list[str]:
    """The distinctive words of a subject, folded; all of them where none is distinctive.

    Args:
        subject: "Ruvora International Airport" gives ["ruvora"].
    """
    words = re.findall(r"[^\W_]+", wording_key(subject))
    return [word for word in words if word not in _PLAIN and len(word) > 1] or words or [subject]


def side_of(subject: str) -> Split:
    """The split that a subject belongs to, whatever else is in it."""
    digest = hashlib.sha256(f"split/{own_words(subject)[-1]}".encode()).digest()
    return "dev" if int.from_bytes(digest[:8], "big") % NUM_SHARES == 0 else "test"


def rank(text: str, seed: int) -> bytes:
    """A fixed pseudo-random sort key."""
    return hashlib.sha256(f"{seed}/{text}".encode()).digest()


def shuffled(candidates: Iterable[Candidate], seed: int) -> list[Candidate]:
    """The candidates in an order that depends on them and the seed alone."""
    return sorted(candidates, key=lambda one: rank(one.row["prompt"] + one.row["subject"], seed))


def of_split(candidates: Sequence[Candidate], split: Split) -> list[Candidate]:
    """The candidates of one split, in their order.

    In the development set, subjects that share a distinctive word with one of the test set come last.
    """
    own = [one for one in candidates if side_of(one.subject) == split]
    if split == "test":
        return own
    tested = {word for one in candidates if side_of(one.subject) == "test" for word in own_words(one.subject)}
    return sorted(own, key=lambda one: not tested.isdisjoint(own_words(one.subject)))
