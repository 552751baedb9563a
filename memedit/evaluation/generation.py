"""Greedy answers of any transformers causal LM, as a user would see them.

What: `generate_answers` continues each prompt greedily until a natural stop (end of sequence or a newline).
Why: teacher-forced scores leak the answer's content and length; only real generation says what was learned.
It is also most of the time of an evaluation, so no work is wasted: prompts of similar length share a batch,
equal prompts are generated once, the language-model head runs at the last position only, keys and values are
cached, and finished rows leave the batch.
How: decoding.py goes through the model a token at a time. A prompt's answer does not depend on its neighbours
in the batch, up to rounding: another batch shape sums in another order, which in bf16 now and then flips a
token whose two best candidates are almost equal. The same prompts make the same batches, so whoever compares
two models asks both the same list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from memedit.evaluation.decoding import Decoder, Stopped
from memedit.evaluation.shared_prefix import SharedPrefix
from memedit.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Generation", "evaluating", "generate_answers"]


@dataclass(frozen=True)
class Generation:
    """What a model answered to one prompt.

    Args:
        text: The answer up to the first newline, without surrounding spaces; may be empty.
        token_ids: Every generated token, the one that ended the answer included.
        confidence: Probability of the first generated token, in [0, 1].
        stopped: What ended the answer.
    """

    text: str
    token_ids: tuple[int, ...]
    confidence: float
    stopped: Stopped


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 16,
    batch_tokens: int = 2048,
    progress: Progress = NULL_PROGRESS,
    description: str = "Answering",
) -> list[Generation]:
    """Continue each prompt greedily until an end-of-sequence token, a newline or the token budget.

    Args:
        model: Any transformers causal LM, on any device.
        tokenizer: Its tokenizer.
        prompts: The prompts, without a trailing space.
        max_new_tokens: Most tokens generated per prompt, at least 1.
        batch_tokens: Most tokens (padding and new tokens included) that a batch may hold; a longer prompt is
            run alone.
        progress: Told of every finished prompt.
        description: What the progress shows.
    Returns:
        One generation per prompt, in the order of the prompts.
    Raises:
        ValueError: max_new_tokens or batch_tokens is below 1, or a prompt holds no token.
    """
    if max_new_tokens < 1 or batch_tokens < 1:
        raise ValueError(
            f"max_new_tokens and batch_tokens must be at least 1, got {max_new_tokens} and {batch_tokens}"
        )
    decoder = Decoder(model, tokenizer)
    rows = decoder.encode(prompts)
    done: dict[tuple[int, ...], Generation] = {}
    with evaluating(model), progress.task(description, len(rows)) as task:
        for batch, shared in decoder.batches(rows, lambda own: own + max_new_tokens, batch_tokens):
            done.update(zip(batch, _greedy(decoder, batch, shared, max_new_tokens), strict=True))
            finished = set(batch)
            task.advance(sum(row in finished for row in rows))
    return [done[row] for row in rows]


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluate a model without gradients for the length of a `with` block, then restore its training flag."""
    was_training = model.training
    model.eval()
    try:
        # Not inference_mode: what a model builds lazily in here must stay usable in training.
        with torch.no_grad():
            yield
    finally:
        if was_training:
            model.train()


def _greedy(
    decoder: Decoder, rows: Sequence[tuple[int, ...]], shared: SharedPrefix, max_new_tokens: int
) -> list[Generation]:
    """Generate for one batch of prompts."""
    live, logits = decoder.begin(rows, shared)
    tokens: list[list[int]] = [[] for _ in rows]
    results: list[Generation | None] = [None] * len(rows)
    confidences: list[float] = []
    for step in range(max_new_tokens):
        if step:
            logits = decoder.logits(live)
        chosen = logits.argmax(dim=-1).tolist()
        if step == 0:
            confidences = logits.float().softmax(dim=-1).amax(dim=-1).tolist()
        kept = []
        for index, (row, token) in enumerate(zip(live.rows, chosen, strict=True)):
            tokens[row].append(token)
            stopped = decoder.stopped(token, is_last=step + 1 == max_new_tokens)
            if stopped is None:
                kept.append(index)
            else:
                text = decoder.answer_text(tokens[row], stopped)
                results[row] = Generation(text, tuple(tokens[row]), confidences[row], stopped)
        if not kept:
            break
        live.keep(kept)
        live.append([chosen[index] for index in kept])
    assert all(result is not None for result in results)
    return [result for result in results if result is not None]
