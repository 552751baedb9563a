"""Perplexity on general text, and its ratio between two models with a paired interval.

What: `text_chunks`, `measure_perplexity`, `perplexity_ratio`, and the text bundled with memedit.
Why: an edit that teaches facts must not change what the model thinks of ordinary prose. The ratio is paired
chunk by chunk, so that it can be far more certain than either perplexity.
How: the text is split at blank lines into passages; a passage, with BOS in front, makes one chunk of at most
512 tokens or is cut into several. Every token but BOS is predicted (without a BOS, every token but the
first). Likelihoods are summed in fp32 or better.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from memedit.errors import UsageError
from memedit.evaluation.generation import evaluating
from memedit.evaluation.statistics import Metric, paired_bootstrap_ratio
from memedit.modeling.encoding import bos_ids, prompt_ids
from memedit.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Perplexity", "general_text", "measure_perplexity", "perplexity_ratio", "text_chunks"]

# Logits of one batch: 512 tokens x 49,152 words take 50 MB in bf16.
_BATCH_TOKENS = 512
_SLICE_TOKENS = 128


@dataclass(frozen=True)
class Perplexity:
    """The perplexity of one model on one text.

    Args:
        value: exp(sum of negative log-likelihoods / number of predicted tokens).
        nlls: Summed negative log-likelihood of each chunk, in nats.
        num_tokens: Predicted tokens of each chunk.
    """

    value: float
    nlls: tuple[float, ...]
    num_tokens: tuple[int, ...]


def general_text(path: str | os.PathLike[str] | None = None) -> str:
    """Return the text on which perplexity is measured.

    Args:
        path: A UTF-8 text file of the user's, or None for the text bundled with memedit.
    Returns:
        The text.
    Raises:
        UsageError: the file cannot be read, is not UTF-8 or holds no text.
    """
    if path is None:
        return (
            resources.files("memedit.evaluation")
            .joinpath("data/general_text.txt")
            .read_text(encoding="utf-8")
        )
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"text: cannot read {os.fspath(path)}: {error.strerror}", remedy="Give a readable text file."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"text: {os.fspath(path)} is not UTF-8 (byte {error.start})", remedy="Save the file as UTF-8."
        ) from error
    if not text.strip():
        raise UsageError(f"text: {os.fspath(path)} is empty", remedy="Give a file with a few thousand words.")
    return text


def text_chunks(
    tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, text: str, *, max_tokens: int = 512
) -> list[tuple[int, ...]]:
    """Tokenise a text into chunks that are scored independently.

    Args:
        tokenizer: The model's tokenizer.
        config: The model's configuration.
        text: Passages separated by blank lines.
        max_tokens: Most tokens of a chunk, BOS included, at least 2.
    Returns:
        Token ids of each chunk in the order of the text, BOS in front of each.
    Raises:
        ValueError: max_tokens leaves no room for a token behind BOS.
    """
    prefix = tuple(bos_ids(tokenizer, config))
    width = max_tokens - len(prefix)
    if max_tokens < 2 or width < 1:
        raise ValueError(f"max_tokens must leave room for BOS and a token to predict, got {max_tokens}")
    chunks = []
    for passage in re.split(r"\n\s*\n", text):
        if not passage.strip():
            continue
        tokens = prompt_ids(tokenizer, config, passage.strip())[len(prefix) :]
        pieces = [tokens[start : start + width] for start in range(0, len(tokens), width)]
        chunks += [(*prefix, *piece) for piece in pieces if len(piece) > (not prefix)]
    return chunks


def measure_perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    max_tokens: int = 512,
    progress: Progress = NULL_PROGRESS,
) -> Perplexity:
    """Measure the perplexity of a model on a text.

    Args:
        model: Any transformers causal LM.
        tokenizer: Its tokenizer.
        text: Passages separated by blank lines.
        max_tokens: Most tokens of a chunk, BOS included.
        progress: Told of every finished chunk.
    Returns:
        The perplexity with the likelihood of every chunk.
    Raises:
        UsageError: the text holds no token to predict.
    """
    chunks = text_chunks(tokenizer, model.config, text, max_tokens=max_tokens)
    if not chunks:
        raise UsageError("text: holds no words to predict", remedy="Give a text of a few thousand words.")
    nlls = [0.0] * len(chunks)
    num_given = max(1, len(bos_ids(tokenizer, model.config)))
    # Similar lengths share a batch: little padding, and the same batches for every model.
    order = sorted(range(len(chunks)), key=lambda index: len(chunks[index]))
    with evaluating(model), progress.task("Measuring perplexity", len(chunks)) as task:
        for batch in _batches(order, chunks):
            sums = _batch_nlls(model, [chunks[index] for index in batch], num_given)
            for index, nll in zip(batch, sums, strict=True):
                nlls[index] = nll
            task.advance(len(batch))
    num_tokens = tuple(len(chunk) - num_given for chunk in chunks)
    mean = math.fsum(nlls) / sum(num_tokens)
    # exp(709.8) is the largest float: beyond it the model is broken, which a perplexity of infinity says.
    return Perplexity(math.exp(mean) if mean < 700 else math.inf, tuple(nlls), num_tokens)


def perplexity_ratio(before: Perplexity, after: Perplexity, *, seed: int = 0) -> Metric:
    """Return the perplexity of the second model relative to the first, on the same text.

    Args:
        before: Perplexity of the first model.
        after: Perplexity of the second model.
        seed: Seed of the bootstrap over chunks.
    Returns:
        The ratio (1 = unchanged), with a paired bootstrap interval; n is the number of chunks.
    Raises:
        ValueError: the two were measured on different texts or chunk sizes.
    """
    if before.num_tokens != after.num_tokens:
        raise ValueError(
            "before and after must be perplexities of the same text, got "
            f"{len(before.num_tokens)} chunks of {sum(before.num_tokens)} tokens and "
            f"{len(after.num_tokens)} chunks of {sum(after.num_tokens)} tokens"
        )
    ratio, low, high = paired_bootstrap_ratio(before.nlls, after.nlls, before.num_tokens, seed)
    protocol = (
        f"perplexity after / before on {sum(before.num_tokens)} tokens of general text, "
        f"paired bootstrap over {len(before.nlls)} passages"
    )
    return Metric("perplexity_ratio", ratio, len(before.nlls), low, high, protocol)


def _batches(order: Sequence[int], chunks: Sequence[tuple[int, ...]]) -> list[list[int]]:
    batches: list[list[int]] = []
    for index in order:
        length = len(chunks[index])
        room = batches and (len(batches[-1]) + 1) * length <= _BATCH_TOKENS
        if room:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _batch_nlls(model: PreTrainedModel, chunks: Sequence[tuple[int, ...]], num_given: int) -> list[float]:
    longest = max(map(len, chunks))
    device = model.device
    input_ids = torch.tensor([list(chunk) + [0] * (longest - len(chunk)) for chunk in chunks], device=device)
    lengths = torch.tensor([len(chunk) for chunk in chunks], device=device)
    # Padding on the right of a causal model changes nothing to its left.
    mask = torch.arange(longest, device=device) < lengths[:, None]
    logits = model(input_ids=input_ids, attention_mask=mask.long(), use_cache=False).logits
    sums = []
    for row, chunk in enumerate(chunks):
        total = 0.0
        for start in range(num_given - 1, len(chunk) - 1, _SLICE_TOKENS):
            end = min(start + _SLICE_TOKENS, len(chunk) - 1)
            targets = input_ids[row, start + 1 : end + 1]
            # [slice, vocabulary] in fp32, a slice at a time: the whole batch would take twice the logits'
            # memory.
            losses = torch.nn.functional.cross_entropy(
                logits[row, start:end].float(), targets, reduction="none"
            )
            total += losses.double().sum().item()
        sums.append(total)
    return sums
