"""Log-probabilities of given continuations: what a model thinks of an answer that it did not write.

What: `Scored`, `score_continuations`.
Why: multiple choice, the CounterFact scores and calibration compare answers that are given; real generation
(generation.py) says what was learned.
How: prompt and continuation are tokenised jointly and sliced, one begin token in front. Equal pairs are run
once, similar lengths share a batch, and the head's logits are normalised in fp32 at the answer's positions
only. Padding stands on the right, where a causal model never looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from memedit.evaluation.generation import evaluating
from memedit.modeling.encoding import encode_fact
from memedit.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Scored", "score_continuations"]

# Logits of one batch: 2,048 tokens x 49,152 words take 200 MB in bf16.
_BATCH_TOKENS = 2048
_SLICE_TOKENS = 256


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
    done: dict[tuple[tuple[int, ...], int], Scored] = {}
    with evaluating(model), progress.task(description, len(rows)) as task:
        for batch in _batches(set(rows), batch_tokens):
            done.update(zip(batch, _score_batch(model, batch), strict=True))
            finished = set(batch)
            task.advance(sum(row in finished for row in rows))
    return [done[row] for row in rows]


def _batches(
    rows: set[tuple[tuple[int, ...], int]], batch_tokens: int
) -> list[list[tuple[tuple[int, ...], int]]]:
    """Group rows of similar length, longest first; the same rows make the same batches."""
    batches: list[list[tuple[tuple[int, ...], int]]] = []
    for row in sorted(rows, key=lambda row: (len(row[0]), row), reverse=True):
        if batches and (len(batches[-1]) + 1) * len(batches[-1][0][0]) <= batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _score_batch(model: PreTrainedModel, batch: Sequence[tuple[tuple[int, ...], int]]) -> list[Scored]:
    longest = max(len(ids) for ids, _ in batch)
    input_ids = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids, _ in batch], device=model.device)
    lengths = torch.tensor([len(ids) for ids, _ in batch], device=model.device)
    mask = (torch.arange(longest, device=model.device) < lengths[:, None]).long()
    logits = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
    return [
        _score_row(logits[row, max(first, 1) - 1 : len(ids) - 1], input_ids[row, max(first, 1) : len(ids)])
        for row, (ids, first) in enumerate(batch)
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
