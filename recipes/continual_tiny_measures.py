"""What recipes/continual_tiny.py asks, and what it makes of the answers.

What: `Exam` (what is taught and asked of one model), `exam_of`, `asked`, `share`, `forgotten`, `pooled`.
Why: every method is given the same facts and asked the same, so that only what it did differs.
How: real generation in held-out wordings. A new fact is one that the model answers wrong in both of its
held-out wordings and in at least one wording that is taught (else `inject` would leave it out).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memedit.evaluation.recall import HELD_OUT_WORDING, TRAINED_WORDING, Question
from memedit.evaluation.statistics import bootstrap_interval
from memedit.facts import Fact, Probes, fact_id
from memedit.modeling.opening import OpenedModel
from memedit.pretraining.corpus import Corpus, CorpusFact
from memedit.pretraining.recall import ask_corpus, corpus_questions

Values = dict[str, Any]
Items = list[tuple[str, int]]
"""(fact, 1 = right) of each question, in the order in which they are asked."""


@dataclass(frozen=True)
class Sizes:
    """How much is taught and asked.

    Attributes:
        batch: facts of the one batch.
        batches: how many batches the sequence has.
        part: facts of each of these.
        old: questions about what the table holds.
        core: questions about what the dense part holds.
    """

    batch: int = 100
    batches: int = 10
    part: int = 20
    old: int = 400
    core: int = 150

    @property
    def num_facts(self) -> int:
        """New facts that are needed."""
        return max(self.batch, self.batches * self.part)


@dataclass(frozen=True)
class Exam:
    """What one model is taught and asked.

    Attributes:
        facts: the new facts.
        old: questions about what the table holds.
        core: questions about what the dense part holds.
        before: answers of the model as it was: "old" and "core".
    """

    facts: tuple[CorpusFact, ...]
    old: tuple[Question, ...]
    core: tuple[Question, ...]
    before: Mapping[str, Items]

    def batch(self, start: int, size: int) -> list[Fact]:
        """Some of the new facts as `inject` takes them."""
        return [to_teach(fact) for fact in self.facts[start : start + size]]


def to_teach(fact: CorpusFact) -> Fact:
    """A corpus fact with its trained wordings to teach and its held-out ones to ask."""
    first, *others = fact.prompts
    return Fact(
        fact_id(first, fact.target, fact.subject),
        first,
        fact.target,
        fact.subject,
        paraphrases=tuple(others),
        probes=Probes(paraphrases=fact.held_out),
    )


def exam_of(opened: OpenedModel, corpus: Corpus, new: str, old: str, sizes: Sizes) -> Exam:
    """Find what a model does not know yet, and what it knows.

    Args:
        opened: the model.
        corpus: its facts.
        new: split of what is taught.
        old: split of what the table holds.
        sizes: how much.

    Raises:
        SystemExit: when the model knows too many of the new facts already, or nothing of the old ones.
    """
    model, tokenizer = opened.model, opened.tokenizer
    unknown: list[CorpusFact] = []
    candidates = corpus.of([new])
    for start in range(0, len(candidates), sizes.num_facts):
        unknown += _unknown(model, tokenizer, candidates[start : start + sizes.num_facts])
        if len(unknown) >= sizes.num_facts:
            break
    if len(unknown) < sizes.num_facts:
        raise SystemExit(
            f"{new}: the model lacks {len(unknown)} facts, expected {sizes.num_facts}: ask for fewer"
        )
    told = corpus_questions(corpus.of([old]), HELD_OUT_WORDING, limit=sizes.old)
    dense = corpus_questions(corpus.of(["core"]), HELD_OUT_WORDING, limit=sizes.core)
    before = {"old": answers(model, tokenizer, told), "core": answers(model, tokenizer, dense)}
    for split, items in ((old, before["old"]), ("core", before["core"])):
        if not any(right for _, right in items):
            raise SystemExit(
                f"{split}: the model answers none of {len(items)} questions: nothing can be forgotten"
            )
    return Exam(tuple(unknown[: sizes.num_facts]), tuple(told), tuple(dense), before)


def _unknown(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: Sequence[CorpusFact]
) -> list[CorpusFact]:
    """Facts that are wrong in all held-out wordings and in some trained one."""
    held_out = _right_share(answers(model, tokenizer, corpus_questions(facts, HELD_OUT_WORDING)))
    wrong = [fact for fact in facts if not held_out[_id(fact)]]
    trained = _right_share(answers(model, tokenizer, corpus_questions(wrong, TRAINED_WORDING)))
    return [fact for fact in wrong if trained[_id(fact)] < 1]


def _id(fact: CorpusFact) -> str:
    return f"{fact.relation}|{fact.subject}"


def _right_share(items: Items) -> dict[str, float]:
    found: dict[str, list[int]] = defaultdict(list)
    for name, right in items:
        found[name].append(right)
    return {name: sum(right) / len(right) for name, right in found.items()}


def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]
) -> Items:
    """Ask, and keep what was right."""
    return [(one.question.fact_id, int(one.correct)) for one in ask_corpus(model, tokenizer, questions)]


def asked(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, exam: Exam, num_facts: int
) -> dict[str, Items]:
    """Ask about the first new facts, and everything old.

    Args:
        model: as it is now.
        tokenizer: its tokenizer.
        exam: what is asked.
        num_facts: new facts that were taught.
    """
    new = corpus_questions(exam.facts[:num_facts], HELD_OUT_WORDING)
    parts = {"new": new, "old": exam.old, "core": exam.core}
    # One call: batches of prompts of one length are larger so.
    items = answers(model, tokenizer, [one for part in parts.values() for one in part])
    found, start = {}, 0
    for name, part in parts.items():
        found[name] = items[start : start + len(part)]
        start += len(part)
    return found


def share(items: Sequence[Sequence[Any]]) -> float:
    """Share of right answers."""
    return sum(right for _, right in items) / len(items) if items else math.nan


def forgotten(before: Sequence[Sequence[Any]], after: Sequence[Sequence[Any]]) -> Items:
    """Of what was right before: (fact, 1 = wrong now)."""
    pairs = zip(before, after, strict=True)
    return [(name, 1 - now) for (name, was), (_, now) in pairs if was]


def pooled(runs: Sequence[Sequence[Sequence[Any]]], seed: int = 0) -> Values:
    """Put seeds together: the share over all of them, with an interval that resamples facts.

    Args:
        runs: of each seed the items; a fact of several seeds is one fact.
        seed: of the bootstrap.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, float] = defaultdict(float)
    for items in runs:
        for name, value in items:
            sums[name] += value
            counts[name] += 1
    total = sum(counts.values())
    if not total:
        return {"value": None, "n": 0, "low": None, "high": None, "by_seed": []}
    low, high = bootstrap_interval(list(sums.values()), seed, counts=list(counts.values()), bounds=(0.0, 1.0))
    return {
        "value": sum(sums.values()) / total,
        "n": int(total),
        "facts": len(counts),
        "low": low,
        "high": high,
        "by_seed": [share(items) if items else None for items in runs],
    }
