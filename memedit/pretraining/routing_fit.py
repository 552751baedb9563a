"""Fitting a memory layer's routing to a corpus in closed form: where answers begin, what is asked decides.

The layer's FFN inputs at answer positions say which fact is asked for and in which wording. Discriminant
analysis finds the directions in which facts differ and wordings of one fact do not; sub-keys are k-means
centres of what the queries then see. It is fitted to facts that the dense part has read, and holds for
others, because it knows of wordings and not of facts.

Source: linear discriminant analysis, Fisher 1936; product keys, Lample et al. 2019 (arXiv 1907.05242).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from memedit.modeling import MemoryLlamaForCausalLM, encode_fact, query_windows
from memedit.modeling.calibration import spherical_kmeans
from memedit.modeling.lower_blocks import ffn_inputs, length_batches, pad_right
from memedit.pretraining.corpus import CorpusFact
from memedit.progress import NULL_PROGRESS, Progress

RIDGE = 0.1
_BATCH_TOKENS = 4096
_KEY_SAMPLES = 20_000
_KMEANS_STEPS = 6


@torch.no_grad()
def fit_answer_routing(
    model: MemoryLlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[CorpusFact],
    *,
    seed: int = 0,
    progress: Progress = NULL_PROGRESS,
) -> None:
    """Set query projection and sub-keys of every memory layer.

    Args:
        model: the model, its memory layers as they came in.
        tokenizer: its tokenizer.
        facts: that the routing is fitted to, all their wordings.
        seed: of rotations and k-means.
        progress: told of rows read.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer, memory in model.memory_layers().items():
        windows, classes = _answer_windows(model, tokenizer, facts, layer, memory.window, progress)
        directions, mean = _directions(windows, classes, RIDGE)
        weights = []
        for _ in range(memory.heads):
            size = max(directions.shape[1], memory.key_dim)
            rotation = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
            weights.append((directions @ rotation[: directions.shape[1], : memory.key_dim]).T)
        weight = torch.cat(weights)
        memory.query_projection.weight.copy_(weight)
        memory.query_projection.bias.copy_(-weight @ mean)
        chosen = windows[torch.randperm(len(windows), generator=generator)[:_KEY_SAMPLES]]
        queries = functional.linear(chosen, weight, -weight @ mean).view(len(chosen), memory.heads, 2, -1)
        num_keys = memory.sub_keys.shape[2]
        for head in range(memory.heads):
            for half in range(2):
                points = queries[:, head, half]
                memory.sub_keys[head, half] = spherical_kmeans(
                    points, torch.ones(len(points)), num_keys, _KMEANS_STEPS, generator
                )


def _answer_windows(
    model: MemoryLlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[CorpusFact],
    layer: int,
    window: int,
    progress: Progress,
) -> tuple[Tensor, Tensor]:
    """Query windows where the next token is part of an answer, and which answer token of which fact it is.

    Returns:
        fp32 [samples, window * hidden_size]; int64 [samples].
    """
    rows, owners = [], []
    for index, fact in enumerate(facts):
        for prompt in (*fact.prompts, *fact.held_out):
            rows.append(encode_fact(tokenizer, model.config, prompt, f" {fact.target}"))
            owners.append(index)
    found: list[Tensor] = []
    classes: list[Tensor] = []
    longest = max(len(row.answer_ids) for row in rows)
    with progress.task("Reading answers", len(rows)) as task:
        for batch in length_batches([len(row.ids) for row in rows], _BATCH_TOKENS):
            _, normalised = ffn_inputs(model, layer, pad_right([rows[at].ids[:-1] for at in batch]))
            windows = query_windows(normalised, window)
            for line, at in enumerate(batch):
                places = torch.arange(rows[at].num_prompt - 1, len(rows[at].ids) - 1)
                found.append(windows[line, places].float())
                classes.append(owners[at] * longest + torch.arange(len(places)))
            task.advance(len(batch))
    return torch.cat(found), torch.cat(classes)


def _directions(samples: Tensor, classes: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Directions in which classes differ, unit variance within a class, strongest first; and the mean.

    Args:
        samples: fp32 [samples, dim].
        classes: int64 [samples].
        ridge: added to the within-class covariance, in units of its mean diagonal.

    Returns:
        fp32 [dim, dim]; fp32 [dim].
    """
    place = classes.unique(return_inverse=True)[1]
    counts = torch.bincount(place).float()[:, None]
    means = torch.zeros(len(counts), samples.shape[1]).index_add_(0, place, samples) / counts
    within = samples - means[place]
    scatter = within.T @ within / len(within)
    scatter += ridge * scatter.diagonal().mean() * torch.eye(len(scatter))
    between = means - means.mean(0)
    inverse = torch.linalg.inv(torch.linalg.cholesky(scatter))
    _, vectors = torch.linalg.eigh(inverse @ (between.T @ between / len(between)) @ inverse.T)
    return inverse.T @ vectors.flip(1), samples.mean(0)
