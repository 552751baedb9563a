"""Answers drawn at random from a causal LM: what it might say, where greedy generation is what it would say.

What: `sample_answers` draws several answers to each prompt at a temperature.
Why: a fact that a model gives only now and then is known weakly, not unknown (slick.py), and the fluency of a
text (fluency.py) is that of a drawn one, since greedy text of a small model repeats itself.
How: each prompt is run once; answers to it share every token that they have in common, so a model that is
sure of itself costs little more than greedy generation. The random numbers belong to (seed, prompt, answer,
step), not to a place in a batch: the same prompt gets the same answers whatever is asked beside it, up to
rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from memedit.evaluation.decoding import Decoder, Stopped
from memedit.evaluation.drawing import Drawing
from memedit.evaluation.generation import Generation, evaluating
from memedit.evaluation.shared_prefix import SharedPrefix
from memedit.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["sample_answers"]

# A row of the cumulative distribution takes 400 KB at 49,152 words.
_SLICE_ROWS = 32


@dataclass
class _Text:
    """One answer while it is written."""

    prompt: int
    numbers: NDArray[np.float64]  # one per step
    tokens: list[int] = field(default_factory=list)
    confidence: float = 0.0
    stopped: Stopped = "length"


def sample_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    drawing: Drawing,
    *,
    batch_tokens: int = 8192,
    progress: Progress = NULL_PROGRESS,
    description: str = "Sampling answers",
) -> list[tuple[Generation, ...]]:
    """Draw answers to each prompt.

    Args:
        model: Any transformers causal LM, on any device.
        tokenizer: Its tokenizer.
        prompts: The prompts, without a trailing space.
        drawing: How many answers, and how they are drawn.
        batch_tokens: Most tokens, those of all answers included, that a batch may hold; the answers to one
            prompt always share a batch.
        progress: Told of every finished prompt.
        description: What the progress shows.
    Returns:
        For each prompt, in order, its answers in the order drawn. `confidence` is the probability of the
        first token at temperature 1, among all tokens.
    Raises:
        ValueError: batch_tokens is below 1, or a prompt holds no token.
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens must be at least 1, got {batch_tokens}")
    decoder = Decoder(model, tokenizer)
    rows = decoder.encode(prompts)
    done: dict[tuple[int, ...], tuple[Generation, ...]] = {}

    def tokens_of(own: int) -> int:
        return drawing.num_samples * (own + drawing.max_new_tokens)

    with evaluating(model), progress.task(description, len(rows)) as task:
        for batch, shared in decoder.batches(rows, tokens_of, batch_tokens):
            texts = [_texts(index, row, drawing) for index, row in enumerate(batch)]
            _draw_batch(decoder, batch, shared, [text for group in texts for text in group], drawing)
            done.update(
                (row, tuple(_generation(decoder, text, drawing) for text in group))
                for row, group in zip(batch, texts, strict=True)
            )
            finished = set(batch)
            task.advance(sum(row in finished for row in rows))
    return [done[row] for row in rows]


def _texts(index: int, row: tuple[int, ...], drawing: Drawing) -> list[_Text]:
    """The empty answers to a prompt, each with the random numbers that will choose its tokens."""
    key = hashlib.sha256(f"{drawing.seed}/{row}".encode("ascii")).digest()
    generator = np.random.default_rng(int.from_bytes(key[:16], "big"))
    shape = drawing.num_samples, drawing.max_new_tokens
    return [_Text(index, numbers) for numbers in generator.random(shape)]


def _draw_batch(
    decoder: Decoder,
    rows: Sequence[tuple[int, ...]],
    shared: SharedPrefix,
    texts: Sequence[_Text],
    drawing: Drawing,
) -> None:
    """Write the texts of a batch of prompts; texts that are equal so far share one row."""
    live, logits = decoder.begin(rows, shared)
    sharing: list[list[_Text]] = [[] for _ in rows]
    for text in texts:
        sharing[text.prompt].append(text)
    for step in range(drawing.max_new_tokens):
        if step:
            logits = decoder.logits(live)
        tokens = _draw(logits, sharing, step, decoder.ends, drawing)
        if step == 0:
            _note_confidence(logits, sharing, tokens)
        kept, chosen, branches = [], [], []
        for index, group in enumerate(sharing):
            for token, branch in _branches(group, tokens[index]).items():
                is_last = step + 1 == drawing.max_new_tokens
                stopped = decoder.stopped(token, is_last=is_last) if drawing.natural_stop else None
                for text in branch:
                    text.tokens.append(token)
                    text.stopped = stopped or "length"
                if stopped is None and not is_last:
                    kept.append(index)
                    chosen.append(token)
                    branches.append(branch)
        if not kept:
            return
        live.keep(kept)
        live.append(chosen)
        sharing = branches


def _branches(group: Sequence[_Text], tokens: Sequence[int]) -> dict[int, list[_Text]]:
    """Texts by the token that each drew, in the order of their first."""
    found: dict[int, list[_Text]] = {}
    for text, token in zip(group, tokens, strict=True):
        found.setdefault(token, []).append(text)
    return found


def _draw(
    logits: torch.Tensor,
    sharing: Sequence[Sequence[_Text]],
    step: int,
    ends: frozenset[int],
    drawing: Drawing,
) -> list[list[int]]:
    """Draw a token for every text by inversion of the cumulative distribution, a slice of rows at a time."""
    drawn: list[list[int]] = []
    for start in range(0, len(sharing), _SLICE_ROWS):
        groups = sharing[start : start + _SLICE_ROWS]
        wide = logits[start : start + _SLICE_ROWS].double() / drawing.temperature
        if not drawing.natural_stop:
            wide[:, sorted(ends)] = -torch.inf
        words = None
        if drawing.top_k is not None and drawing.top_k < wide.shape[-1]:
            wide, words = wide.topk(drawing.top_k, dim=-1)
        cumulative = wide.softmax(dim=-1).cumsum(dim=-1)
        most = max(map(len, groups))
        numbers = torch.zeros(len(groups), most, dtype=torch.float64)
        for row, group in enumerate(groups):
            numbers[row, : len(group)] = torch.tensor([text.numbers[step] for text in group])
        # Rounding can leave the last sum a little off 1.
        scaled = numbers.to(wide.device) * cumulative[:, -1:]
        places = torch.searchsorted(cumulative, scaled, right=True).clamp_max(wide.shape[-1] - 1)
        tokens = (places if words is None else words.gather(1, places)).tolist()
        drawn.extend(row[: len(group)] for row, group in zip(tokens, groups, strict=True))
    return drawn


def _note_confidence(
    logits: torch.Tensor, sharing: Sequence[Sequence[_Text]], tokens: Sequence[Sequence[int]]
) -> None:
    for row, group in enumerate(sharing):
        likely = logits[row].float().softmax(dim=-1)
        for text, token in zip(group, tokens[row], strict=True):
            text.confidence = float(likely[token])


def _generation(decoder: Decoder, text: _Text, drawing: Drawing) -> Generation:
    shown = (
        decoder.answer_text(text.tokens, text.stopped)
        if drawing.natural_stop
        else decoder.decode(text.tokens).strip()
    )
    return Generation(shown, tuple(text.tokens), text.confidence, text.stopped)
