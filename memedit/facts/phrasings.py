r"""Everything that is taught for a fact: the user's wordings, and what is made where they are missing.

What: `wordings(fact, seed=...)`: some ten prompts, each with the place of the subject in it.
Why: a fact taught in one wording is not learned; with eight wordings and a few random sentences in front it
is found in wordings that were never trained (FINDINGS 1.2).
How: given wordings are all used; statements, questions and contexts are added up to fixed numbers. Choices
are ranked by a hash of (seed, fact, candidate), so they are the same on every machine and Python version.
Probes and the form "Question: ...\nAnswer:" are never made: they are kept for evaluation.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from memedit.errors import FactsError
from memedit.facts.fact import Fact
from memedit.facts.questions import lower_opening, question_core, questions_from
from memedit.facts.relations import context_sentences, relations
from memedit.facts.rendering import fill, mention_span, with_article, wording_key

__all__ = ["NUM_CONTEXTS", "NUM_QUESTIONS", "NUM_STATEMENTS", "Kind", "Wording", "ranked", "wordings"]

Kind = Literal["given", "statement", "question", "context"]

NUM_STATEMENTS = 6  # given wordings and made statements together
NUM_QUESTIONS = 3
NUM_CONTEXTS = 2
_MIN_WORDINGS = 8

_STATEMENT_FRAMES = (
    "It is known that {lower}",
    "As everyone knows, {lower}",
    "According to the encyclopedia, {lower}",
    "Fact: {text}",
    "Most books agree that {lower}",
    "To put it simply, {lower}",
)
_QUESTION_FRAMES = (
    "Q: {text} A:",
    "{text}",
    "Quiz: {text}\nSolution:",
    "Please answer: {text}",
    "Tell me: {text}",
    "Here is a question: {text}",
    "Asked and answered: {text}",
)
_TWO_LINED_FRAMES = (
    "Asked: {text}\nSaid:",
    "Quiz: {text}\nSolution:",
    "Trivia: {text}\nReply:",
    "User: {text}\nAssistant:",
    "Teacher: {text}\nPupil:",
)


@dataclass(frozen=True)
class Wording:
    """One prompt that is taught for a fact.

    Args:
        prompt: Ends right before the answer.
        kind: "given" by the user, or made: "statement", "question", "context" (a sentence in front).
        subject_start: First character of the subject's last mention in `prompt`.
        subject_end: One past its last character.
    """

    prompt: str
    kind: Kind
    subject_start: int
    subject_end: int


def ranked(candidates: Iterable[str], key: str) -> list[str]:
    """The candidates in an order that only depends on them and on the key.

    Args:
        candidates: Texts; doubles are dropped.
        key: Any text, for example seed and fact id.

    Returns:
        The candidates, shuffled by their hash.
    """
    return sorted(set(candidates), key=lambda text: hashlib.sha256(f"{key}\n{text}".encode()).digest())


class _Collector:
    """Takes wordings that are new, hold the subject and are no probe."""

    def __init__(self, fact: Fact) -> None:
        self.fact = fact
        self.taken: list[Wording] = []
        self.keys: set[str] = set()
        probes = fact.probes.prompts
        self.held_out = {wording_key(text) for text in probes}
        self.held_out |= {wording_key(core) for text in probes if (core := question_core(text))}

    def add(self, prompt: str, kind: Kind) -> bool:
        key = wording_key(prompt)
        span = mention_span(prompt, self.fact.subject)
        if key in self.keys or span is None or (kind != "given" and self.is_held_out(prompt)):
            return False
        self.keys.add(key)
        self.taken.append(Wording(prompt, kind, *span))
        return True

    def is_held_out(self, prompt: str) -> bool:
        """Whether a prompt is a probe, or asks what a probe asks."""
        # A question in another frame is still the question that is to be evaluated.
        core = question_core(prompt)
        return not self.held_out.isdisjoint({wording_key(prompt), wording_key(core or prompt)})

    def add_first(self, prompts: Iterable[str], kind: Kind, num: int) -> None:
        """Adds up to `num` of the prompts, in their order."""
        for prompt in prompts:
            if num <= 0:
                return
            num -= self.add(prompt, kind)


def _statements(fact: Fact, key: str) -> list[str]:
    """Made statements, the bundled ones of the relation before frames around the given ones."""
    relation = relations().get(fact.relation or "")
    name = with_article(fact.prompt, fact.subject)
    bundled = [fill(template, name) for template in relation.statements] if relation else []
    bases = [text for text in fact.given_wordings if question_core(text) is None]
    frames = ranked(_STATEMENT_FRAMES, key)
    pairs = zip(frames, itertools.cycle(bases), strict=False)
    framed = [frame.format(text=base, lower=lower_opening(base, fact.subject)) for frame, base in pairs]
    return [*ranked(bundled, key), *framed]


def _questions(fact: Fact, key: str) -> list[str]:
    relation = relations().get(fact.relation or "")
    name = with_article(fact.prompt, fact.subject)
    bundled = [fill(template, name) for template in relation.questions] if relation else []
    return [*ranked(bundled, key), *questions_from(fact.given_wordings, fact.subject)]


def _framed(questions: Iterable[str], key: str) -> Iterable[str]:
    """Questions "Q: ... A:" in three frames in turn.

    Two of them have two lines: taught on one line alone, a model ends where an answer starts on the next.
    """
    frames = ("Q: {text} A:", "Q: {text}\nA:", ranked(_TWO_LINED_FRAMES, key)[0])
    for frame, question in zip(itertools.cycle(frames), questions, strict=False):
        yield frame.format(text=question.removeprefix("Q: ").removesuffix(" A:"))


def _contexts(bases: Sequence[str], key: str) -> list[str]:
    """A neutral sentence in front of each base in turn, more of them than are needed."""
    sentences = ranked(context_sentences(), key)
    return [f"{sentence} {bases[index % len(bases)]}" for index, sentence in enumerate(sentences)]


def wordings(
    fact: Fact, *, seed: int, num_contexts: int = NUM_CONTEXTS, num_questions: int = NUM_QUESTIONS
) -> list[Wording]:
    """Every prompt that is taught for the fact.

    Args:
        fact: The fact; its probes are never among the result.
        seed: Chooses among the wordings that are made.
        num_contexts: How many wordings with a random sentence in front.
        num_questions: How many questions, the given ones among them.

    Returns:
        Unique wordings, the given ones first; 8 to 12 unless the user gave more than 7. The same
        (fact, seed, num_contexts, num_questions) gives the same list everywhere.

    Raises:
        FactsError: When a given wording does not hold the subject.
    """
    key = f"{seed}/{fact.id}"
    collector = _Collector(fact)
    for text in fact.given_wordings:
        if mention_span(text, fact.subject) is None:
            raise FactsError(
                f"fact {fact.id}: the wording {text!r} does not contain its subject {fact.subject!r}",
                remedy="Write the subject as it stands in the wording.",
            )
        collector.add(text, "given")
    num_asking = sum(question_core(text) is not None for text in fact.given_wordings)
    collector.add_first(_statements(fact, key), "statement", NUM_STATEMENTS - len(collector.taken))
    asked = [question for question in _questions(fact, key) if not collector.is_held_out(question)]
    collector.add_first(_framed(asked, key), "question", num_questions - num_asking)
    bases = [wording.prompt for wording in collector.taken if wording.kind == "given"]
    if len(bases) < num_contexts:
        bases += [wording.prompt for wording in collector.taken if wording.kind == "statement"]
    collector.add_first(_contexts(bases, key), "context", num_contexts if bases else 0)
    if len(collector.taken) < _MIN_WORDINGS:
        # Prompts that only ask have no statements: ask them in further frames.
        cores = [core for text in fact.given_wordings if (core := question_core(text))]
        framed = [frame.format(text=core) for core in cores for frame in _QUESTION_FRAMES]
        collector.add_first(framed, "question", _MIN_WORDINGS - len(collector.taken))
    return collector.taken
