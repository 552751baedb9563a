"""A corpus of facts: subjects, relations, answers, and the wordings that a relation is said in.

A fact is read in some of its relation's wordings and asked in the others; which ones, a hash of the fact
decides, so that a held-out wording of one fact is a trained one of another and nothing but the fact is new.
Facts are in splits: parts that share no subject, for the dense part, for the slots, for choosing settings,
and for later injection.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from memedit.errors import UsageError

HELD_OUT_WORDINGS = 2


@dataclass(frozen=True)
class CorpusFact:
    """One fact.

    Attributes:
        subject: what it speaks of.
        relation: name of its relation.
        target: the answer.
        split: the part of the corpus that it is in.
        prompts: wordings that it is read in.
        held_out: wordings that it is only asked in.
    """

    subject: str
    relation: str
    target: str
    split: str
    prompts: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """Facts by split."""

    facts: tuple[CorpusFact, ...]

    def of(self, splits: Iterable[str]) -> list[CorpusFact]:
        """Facts of some splits, in the order of the corpus.

        Raises:
            ValueError: when a split holds no fact.
        """
        wanted = list(splits)
        known = {fact.split for fact in self.facts}
        for split in wanted:
            if split not in known:
                raise ValueError(f"split: got {split!r}, expected one of {', '.join(sorted(known))}")
        return [fact for fact in self.facts if fact.split in wanted]


def read_corpus(path: Path | None = None) -> Corpus:
    """Read a corpus.

    Args:
        path: a file whose first line is {"wordings": {relation: [wording with {}]}} and whose other lines are
            ["relation", "subject", "answer", "split"]; .gz = compressed. None = the one that comes with
            memedit (docs/pretraining.md).

    Raises:
        UsageError: when it cannot be read or a line is not as described.
    """
    if path is None:
        shipped = resources.files("memedit.pretraining").joinpath("data/tiny_corpus.jsonl.gz")
        return _parsed(gzip.decompress(shipped.read_bytes()).decode(), "tiny_corpus.jsonl.gz")
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", remedy="See docs/pretraining.md for the format.") from error
    return _parsed(text, str(path))


def _parsed(text: str, name: str) -> Corpus:
    first, *lines = text.splitlines() or [""]
    with _at(name, 1):
        wordings = {relation: tuple(said) for relation, said in json.loads(first)["wordings"].items()}
    facts = []
    for number, line in enumerate(lines, 2):
        with _at(name, number):
            relation, subject, target, split = json.loads(line)
            facts.append(corpus_fact(relation, subject, target, split, wordings[relation]))
    return Corpus(tuple(facts))


@contextmanager
def _at(name: str, number: int) -> Iterator[None]:
    """Say in which line something is wrong."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{name}:{number}: {error!r}",
            remedy='Expected ["relation", "subject", "answer", "split"] of a relation of the first line.',
        ) from error


def corpus_fact(relation: str, subject: str, target: str, split: str, wordings: Sequence[str]) -> CorpusFact:
    """Word a fact: some wordings are trained, the others held out.

    Args:
        relation: name of the relation.
        subject: fills the wordings' {}.
        target: the answer.
        split: part of the corpus.
        wordings: of the relation, each with one {}.
    """
    order = sorted(range(len(wordings)), key=lambda at: _rank(relation, subject, str(at)))
    trained, held_out = sorted(order[HELD_OUT_WORDINGS:]), sorted(order[:HELD_OUT_WORDINGS])
    prompts, asked = (
        tuple(wordings[at].replace("{}", subject) for at in chosen) for chosen in (trained, held_out)
    )
    return CorpusFact(subject, relation, target, split, prompts, asked)


def _rank(*parts: str) -> bytes:
    return hashlib.sha256("|".join(parts).encode()).digest()
