"""Log-probabilities of given continuations: what a model thinks of an answer that it did not write.

What: `Scored`, `score_continuations`.
Why: multiple choice, the CounterFact scores and calibration compare answers that are given; real generation
(generation.py) says what was learned.
How: prompt and continuation are tokenised jointly and sliced, one begin token in front. Equal pairs are run
once, similar lengths share a batch, and the head's logits are normalised in fp32 at the answer's positions
only. Padding stands on the right, where a causal model never looks. What many prompts begin with (the
examples in front of a benchmark's questions) is run once (shared_prefix.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from memedit.evaluation.generation import evaluating
from memedit.evaluation.shared_prefix import LENT_FACTOR, SharedPrefix, groups_that_begin_alike, share_prefix
from memedit.modeling.encoding import encode_fact
from memedit.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Scored", "score_continuations"]

# Logits of one batch: 2,048 tokens x 49,152 words take 200 MB in bf16.
_BATCH_TOKENS = 2048
_SLICE_TOKENS = 256

_Row = tuple[tuple[int, ...], int]  # tokens, and how many of them are the prompt's


@dataclass(frozen=True)
class Scored:
    """What a model thinks of one continuation.

    Args:
        log_prob: Log-probability of the continuation in nats, the sum over its tokens.
        num_tokens: Tokens of the continuation, at least 1.
        num_greedy: How many of them are the model's first choice, given those before (teacher forcing).
    """

    log_prob: float
    num_tokens: int
    num_greedy: int


def score_continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    *,
    batch_tokens: int = _BATCH_TOKENS,
    progress: Progress = NULL_PROGRESS,
    description: str = "Scoring answers",
) -> list[Scored]:
    """Score each continuation behind its prompt.

    Args:
        model: Any transformers causal LM, on any device.
        tokenizer: Its tokenizer, a fast one.
        pairs: (prompt, continuation); the continuation follows as it stands, its leading space included.
        batch_tokens: Most tokens, padding included, that a batch may hold; a longer pair is run alone.
        progress: Told of every scored pair.
        description: What the progress shows.
    Returns:
        One score per pair, in order. The end token is not part of a continuation.
    Raises:
        ValueError: a continuation is empty, or batch_tokens is below 1.
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens must be at least 1, got {batch_tokens}")
    encoded = [encode_fact(tokenizer, model.config, prompt, continuation) for prompt, continuation in pairs]
    rows = [(fact.ids[:-1], fact.num_prompt) for fact in encoded]
    done: dict[_Row, Scored] = {}
    with evaluating(model), progress.task(description, len(rows)) as task:
        ordered = sorted(set(rows), key=lambda row: (len(row[0]), row), reverse=True)
        # A row's first answer token is predicted at the last of its prompt, which is therefore its own.
        starts = [ids[: max(first - 1, 0)] for ids, first in ordered]
        for group in groups_that_begin_alike(starts):
            shared = share_prefix(model, [starts[index] for index in group])
            for batch in _batches([ordered[index] for index in group], batch_tokens, len(shared.ids)):
                done.update(zip(batch, _score_batch(model, batch, shared), strict=True))
                finished = set(batch)
                task.advance(sum(row in finished for row in rows))
    return [done[row] for row in rows]


def _batches(rows: Sequence[_Row], batch_tokens: int, num_shared: int) -> list[list[_Row]]:
    """Group rows, longest first as they are given; the same rows make the same batches."""
    batches: list[list[_Row]] = []
    for row in rows:
        if batches:
            size, longest = len(batches[-1]) + 1, len(batches[-1][0][0])
            fits = (
                size * (longest - num_shared) <= batch_tokens and size * longest <= batch_tokens * LENT_FACTOR
            )
        if batches and fits:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _score_batch(model: PreTrainedModel, batch: Sequence[_Row], shared: SharedPrefix) -> list[Scored]:
    start = len(shared.ids)
    longest = max(len(ids) for ids, _ in batch)
    padded = [[*ids[start:], *[0] * (longest - len(ids))] for ids, _ in batch]
    input_ids = torch.tensor(padded, device=model.device)
    lengths = torch.tensor([len(ids) for ids, _ in batch], device=model.device)
    mask = (torch.arange(longest, device=model.device) < lengths[:, None]).long()
    lent = shared.lend(len(batch))
    logits = model(
        input_ids=input_ids, attention_mask=mask, past_key_values=lent, use_cache=lent is not None
    ).logits
    places = [(max(first, 1) - start, len(ids) - start) for ids, first in batch]
    return [
        _score_row(logits[row, first - 1 : end - 1], input_ids[row, first:end])
        for row, (first, end) in enumerate(places)
    ]


def _score_row(logits: torch.Tensor, targets: torch.Tensor) -> Scored:
    """Score the answer's tokens from the logits of the positions before them, a slice at a time."""
    log_prob, num_greedy = 0.0, 0
    for start in range(0, len(targets), _SLICE_TOKENS):
        wide = logits[start : start + _SLICE_TOKENS].float()
        chosen = targets[start : start + _SLICE_TOKENS]
        log_prob -= torch.nn.functional.cross_entropy(wide, chosen, reduction="sum").double().item()
        num_greedy += int((wide.argmax(-1) == chosen).sum())
    return Scored(log_prob, len(targets), num_greedy)
