"""Greedy answers of any transformers causal LM, as a user would see them.

What: `generate_answers` continues each prompt greedily until a natural stop (end of sequence or a newline).
Why: teacher-forced scores leak the answer's content and length; only real generation says what was learned.
It is also most of the time of an evaluation, so no work is wasted: prompts of similar length share a batch,
equal prompts are generated once, the language-model head runs at the last position only, keys and values are
cached, and finished rows leave the batch.
How: left padding with explicit positions and mask, BOS in front (memedit.modeling.encoding). The cache is the
one that the model makes itself, so a memory layer's query window travels in it. A prompt's answer does not
depend on its neighbours in the batch, up to rounding: another batch shape sums in another order, which in
bf16 now and then flips a token whose two best candidates are almost equal. The same prompts make the same
batches, so whoever compares two models asks both the same list.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from memedit.modeling.encoding import bos_ids, prompt_ids
from memedit.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Generation", "evaluating", "generate_answers"]

Stopped = Literal["eos", "newline", "length"]


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
    rows = [tuple(prompt_ids(tokenizer, model.config, prompt)) for prompt in prompts]
    if not all(rows):
        raise ValueError(f"prompts[{rows.index(())}] is empty, expected text to continue")
    decoder = _Decoder(model, tokenizer, max_new_tokens)
    done: dict[tuple[int, ...], Generation] = {}
    with evaluating(model), progress.task(description, len(rows)) as task:
        for batch in _batches(set(rows), batch_tokens, max_new_tokens):
            done.update(zip(batch, decoder.generate(batch), strict=True))
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


def _batches(
    rows: set[tuple[int, ...]], batch_tokens: int, max_new_tokens: int
) -> Iterator[list[tuple[int, ...]]]:
    """Yield rows of similar length, longest batches first so that a lack of memory shows at once."""
    # The order within a length is fixed too: the same prompts make the same batches, hence the same bits.
    ordered = sorted(rows, key=lambda row: (len(row), row), reverse=True)
    start = 0
    while start < len(ordered):
        size = max(1, batch_tokens // (len(ordered[start]) + max_new_tokens))
        yield ordered[start : start + size]
        start += size


@dataclass
class _Batch:
    """The rows that are still being generated."""

    rows: list[int]  # place in the whole batch
    input_ids: torch.Tensor  # [rows, new]
    mask: torch.Tensor  # [rows, seen]
    positions: torch.Tensor  # [rows, new]
    cache: Any = None

    def keep(self, kept: list[int]) -> None:
        """Drop every row but those at the indices `kept`."""
        if len(kept) == len(self.rows):
            return
        chosen = torch.tensor(kept, device=self.mask.device)
        self.rows = [self.rows[index] for index in kept]
        self.mask, self.positions = self.mask[chosen], self.positions[chosen]
        # Recurrent layers of hybrid models know reorder_cache only; it selects rows just as well.
        layers = getattr(self.cache, "layers", ())
        if all(hasattr(layer, "batch_select_indices") for layer in layers):
            self.cache.batch_select_indices(chosen)
        else:
            self.cache.reorder_cache(chosen)

    def append(self, tokens: list[int]) -> None:
        """Make the chosen tokens, one per row, the next input."""
        self.input_ids = torch.tensor(tokens, device=self.mask.device)[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        self.positions = self.positions[:, -1:] + 1


class _Decoder:
    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.ends = _end_ids(model, tokenizer)
        self.breaks: dict[int, bool] = {}
        accepted = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in accepted
        self.options = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def generate(self, rows: Sequence[tuple[int, ...]]) -> list[Generation]:
        """Generate for one batch of prompts."""
        batch = self._start(rows)
        tokens: list[list[int]] = [[] for _ in rows]
        results: list[Generation | None] = [None] * len(rows)
        confidences: list[float] = []
        for step in range(self.max_new_tokens):
            logits = self._forward(batch)
            chosen = logits.argmax(dim=-1).tolist()
            if step == 0:
                confidences = logits.float().softmax(dim=-1).amax(dim=-1).tolist()
            kept = []
            for index, (row, token) in enumerate(zip(batch.rows, chosen, strict=True)):
                tokens[row].append(token)
                stopped = self._stopped(token, step)
                if stopped is None:
                    kept.append(index)
                else:
                    results[row] = self._result(tokens[row], confidences[row], stopped)
            if not kept:
                break
            batch.keep(kept)
            batch.append([chosen[index] for index in kept])
        assert all(result is not None for result in results)
        return [result for result in results if result is not None]

    def _start(self, rows: Sequence[tuple[int, ...]]) -> _Batch:
        device = self.model.device
        longest = max(map(len, rows))
        # The padding token's identity is of no consequence: the mask hides it.
        padded = [[0] * (longest - len(row)) + list(row) for row in rows]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        places = torch.arange(longest, device=device) - (longest - lengths)[:, None]
        input_ids = torch.tensor(padded, device=device)
        return _Batch(list(range(len(rows))), input_ids, (places >= 0).long(), places.clamp_min(0))

    def _forward(self, batch: _Batch) -> torch.Tensor:
        positions = {"position_ids": batch.positions} if self.takes_positions else {}
        output = self.model(
            input_ids=batch.input_ids,
            attention_mask=batch.mask,
            past_key_values=batch.cache,
            use_cache=True,
            **positions,
            **self.options,
        )
        batch.cache = output.past_key_values
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _stopped(self, token: int, step: int) -> Stopped | None:
        if token in self.ends:
            return "eos"
        if token not in self.breaks:
            self.breaks[token] = "\n" in self._decode([token])
        if self.breaks[token]:
            return "newline"
        return "length" if step + 1 == self.max_new_tokens else None

    def _result(self, tokens: list[int], confidence: float, stopped: Stopped) -> Generation:
        text = self._decode(tokens[:-1] if stopped == "eos" else tokens)
        return Generation(text.split("\n", 1)[0].strip(), tuple(tokens), confidence, stopped)

    def _decode(self, tokens: list[int]) -> str:
        return str(
            self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end a text; what stands in front of a prompt counts: it starts the next text."""
    generation = getattr(model, "generation_config", None)
    candidates = (
        tokenizer.eos_token_id,
        getattr(model.config, "eos_token_id", None),
        getattr(generation, "eos_token_id", None),
        bos_ids(tokenizer, model.config),
    )
    ends: set[int] = set()
    for candidate in candidates:
        if isinstance(candidate, int):
            ends.add(candidate)
        elif candidate is not None:
            ends.update(candidate)
    return frozenset(ends)
