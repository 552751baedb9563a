"""Rows: what is read when facts are taught, as tokens.

A fact becomes one row for each wording (prompt, answer, end token; only answer tokens carry loss) and a few
decoy rows, which are routed but never trained. Facts about one subject share an owner.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from memedit.editing.decoys import decoys
from memedit.facts import Fact, Wording, join, wordings
from memedit.modeling import EncodedFact, MemoryLlamaConfig, encode_fact
from memedit.modeling.background import SAMPLE_TAIL


@dataclass(frozen=True)
class TeachingRow:
    """One wording of a fact, as tokens.

    Attributes:
        fact: index of the fact in the batch.
        owner: index of its subject among the batch's subjects.
        encoded: tokens, where the answer starts, the subject's last token.
        given: the user wrote this wording; False = it was made.
    """

    fact: int
    owner: int
    encoded: EncodedFact
    given: bool = False

    @property
    def subject_tail(self) -> tuple[int, ...]:
        """The last tokens of the subject, at most as many as the background sample keeps."""
        assert self.encoded.subject_first is not None
        first = max(self.encoded.subject_first, self.subject_last - SAMPLE_TAIL + 1)
        return self.encoded.ids[first : self.subject_last + 1]

    @property
    def subject_last(self) -> int:
        """Index of the token where the fact is written: the subject's last, or the prompt's (_encode)."""
        assert self.encoded.subject_last is not None
        return self.encoded.subject_last


@dataclass(frozen=True)
class TeachingRows:
    """All rows of a batch of facts.

    Attributes:
        subjects: one name per owner.
        rows: what is taught.
        decoys: look-alike rows; their `owner` is the subject that they resemble.
        at_answers: facts are written at the prompts' last tokens, not at the subjects'.
    """

    subjects: tuple[str, ...]
    rows: tuple[TeachingRow, ...]
    decoys: tuple[TeachingRow, ...]
    at_answers: bool = False

    def subject_tails(self) -> list[set[tuple[int, ...]]]:
        """For each subject the token sequences that its mentions end in.

        None where facts are written at the prompts' last tokens: what ends there is a wording, not a mention.
        """
        tails: list[set[tuple[int, ...]]] = [set() for _ in self.subjects]
        if self.at_answers:
            return tails
        for row in self.rows:
            tails[row.owner].add(row.subject_tail)
        return tails


def teaching_rows(
    facts: Sequence[Fact],
    tokenizer: PreTrainedTokenizerBase,
    config: MemoryLlamaConfig,
    *,
    seed: int,
    num_contexts: int,
    num_questions: int,
    num_decoys: int,
) -> TeachingRows:
    """Turn facts into rows.

    Args:
        facts: what is to be taught.
        tokenizer: the model's tokenizer.
        config: the model's configuration.
        seed: of made wordings and decoys.
        num_contexts: wordings with a random sentence in front, per fact.
        num_questions: questions, per fact.
        num_decoys: look-alike names per subject.
    """
    subjects = {subject: owner for owner, subject in enumerate(dict.fromkeys(fact.subject for fact in facts))}
    rows: list[TeachingRow] = []
    decoy_rows: list[TeachingRow] = []
    decoyed: set[str] = set()
    for index, fact in enumerate(facts):
        owner = subjects[fact.subject]
        told = wordings(fact, seed=seed, num_contexts=num_contexts, num_questions=num_questions)
        rows += [
            TeachingRow(
                index, owner, _encode(tokenizer, config, wording, fact.target), given=wording.kind == "given"
            )
            for wording in told
        ]
        if fact.subject in decoyed:
            continue
        decoyed.add(fact.subject)
        for place, name in enumerate(decoys(fact.subject, num_decoys, seed)):
            swapped = _swap(told[-1] if place % 4 > 1 else told[0], name)
            decoy_rows.append(TeachingRow(index, owner, _encode(tokenizer, config, swapped, fact.target)))
    at_answers = config.memory_write_position == "answer"
    return TeachingRows(tuple(subjects), tuple(rows), tuple(decoy_rows), at_answers)


def _swap(wording: Wording, name: str) -> Wording:
    """The wording with another name in the subject's place."""
    start, end = wording.subject_start, wording.subject_end
    prompt = wording.prompt[:start] + name + wording.prompt[end:]
    return Wording(prompt, wording.kind, start, start + len(name))


def _encode(
    tokenizer: PreTrainedTokenizerBase, config: MemoryLlamaConfig, wording: Wording, target: str
) -> EncodedFact:
    answer = join(wording.prompt, target)[len(wording.prompt) :]
    span = (wording.subject_start, wording.subject_end)
    encoded = encode_fact(tokenizer, config, wording.prompt, answer, span)
    if config.memory_write_position == "subject":
        return encoded
    # Where the routing was trained on facts, it is the prompt's last token that tells them apart.
    return replace(encoded, subject_last=encoded.num_prompt - 1)
