"""Batches of facts: one fact a row, rows of like length together, order and wordings from the seed alone.

Which rows an exposure reads is a function of seed and exposure, so a training that was killed goes on with
the batch that it would have read next.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from memedit.modeling import encode_fact
from memedit.pretraining.corpus import CorpusFact

IGNORED = -100
# As many batches' rows are sorted by length together: enough for little padding, few enough to stay mixed.
_SORTED_BATCHES = 16


class Batch(NamedTuple):
    """Rows of tokens.

    Attributes:
        ids: int64 [rows, time], begin token first, padded on the right.
        labels: int64 [rows, time], the token that follows where it carries loss, IGNORED elsewhere.
        num_tokens: tokens that are not padding.
    """

    ids: Tensor
    labels: Tensor
    num_tokens: int


class Batches(Protocol):
    """What a phase reads."""

    @property
    def steps_per_exposure(self) -> int:
        """Batches of an exposure; the same for all."""
        ...

    def exposure(self, number: int) -> list[Batch]:
        """Batches of an exposure, counted from 0: always the same ones."""
        ...


@dataclass(frozen=True)
class Row:
    """One wording of a fact as tokens.

    Attributes:
        ids: begin token, prompt, answer, end token.
        answer_start: index of the answer's first token.
    """

    ids: tuple[int, ...]
    answer_start: int


class FactBatches:
    """Batches of facts, each in one of its trained wordings, chosen anew in every exposure.

    Args:
        facts: read once an exposure.
        mixed: some of them are read as well, others in every exposure.
        tokenizer: the model's.
        config: the model's.
        batch_rows: rows a batch.
        mixed_share: share of the rows that come from `mixed`.
        full_loss_every: every so manieth row carries loss on all tokens; 0 = none.
        seed: of order and wordings.
    """

    def __init__(
        self,
        facts: Sequence[CorpusFact],
        mixed: Sequence[CorpusFact],
        tokenizer: PreTrainedTokenizerBase,
        config: PreTrainedConfig,
        *,
        batch_rows: int,
        mixed_share: float = 0.0,
        full_loss_every: int = 8,
        seed: int = 0,
    ) -> None:
        wanted = round(len(facts) * mixed_share / (1 - mixed_share))
        self.num_mixed, self.batch_rows, self.seed = min(len(mixed), wanted), batch_rows, seed
        self.full_loss_every = full_loss_every
        self.facts, self.mixed = (
            [fact_rows(fact, tokenizer, config) for fact in part] for part in (facts, mixed)
        )

    @property
    def steps_per_exposure(self) -> int:
        """Batches of an exposure."""
        return -(-(len(self.facts) + self.num_mixed) // self.batch_rows)

    def exposure(self, number: int) -> list[Batch]:
        """Batches of an exposure, counted from 0: always the same ones."""
        chance = random.Random(f"{self.seed}-{number}")
        told = self.facts + chance.sample(self.mixed, self.num_mixed)
        rows = [chance.choice(wordings) for wordings in told]
        chance.shuffle(rows)
        batches: list[list[Row]] = []
        size = self.batch_rows * _SORTED_BATCHES
        for start in range(0, len(rows), size):
            near = sorted(rows[start : start + size], key=lambda row: len(row.ids))
            batches += [near[at : at + self.batch_rows] for at in range(0, len(near), self.batch_rows)]
        chance.shuffle(batches)
        return [batch_of(rows, self.full_loss_every, chance) for rows in batches]


def fact_rows(
    fact: CorpusFact, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig
) -> tuple[Row, ...]:
    """The rows of a fact's trained wordings."""
    encoded = [encode_fact(tokenizer, config, prompt, f" {fact.target}") for prompt in fact.prompts]
    return tuple(Row(row.ids, row.num_prompt) for row in encoded)


def batch_of(rows: Sequence[Row], full_loss_every: int, chance: random.Random) -> Batch:
    """Pad rows to one length.

    Args:
        rows: the rows.
        full_loss_every: about one row in so many carries loss on all its tokens; 0 = none.
        chance: decides which.
    """
    longest = max(len(row.ids) for row in rows) - 1
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    labels = torch.full((len(rows), longest), IGNORED)
    for line, row in enumerate(rows):
        tokens, width = torch.tensor(row.ids), len(row.ids) - 1
        first = 1 if full_loss_every and chance.randrange(full_loss_every) == 0 else row.answer_start
        ids[line, :width] = tokens[:-1]
        labels[line, first - 1 : width] = tokens[first:]
    return Batch(ids, labels, sum(len(row.ids) - 1 for row in rows))
