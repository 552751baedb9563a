"""Fitting a memory layer's routing to a corpus in closed form: where answers begin, what is asked decides.

The layer's FFN inputs at answer positions say which fact is asked for and in which wording. Discriminant
analysis finds the directions in which facts of one relation differ and wordings of one fact do not; what
relations have apart counts little, or all look-ups of a relation would meet in a few slots. Each direction
gets the same spread, heads see them through random rotations, and sub-keys are k-means centres of what the
queries then see: many heads of few dimensions, because k-means divides a space of few dimensions evenly. It
is fitted to facts that the dense part has read, and holds for others, because it knows of wordings and not of
facts.

Source: linear discriminant analysis, Fisher 1936; product keys, Lample et al. 2019 (arXiv 1907.05242).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from memedit.modeling import MemoryLlamaForCausalLM, encode_fact, query_windows
from memedit.modeling.calibration import spherical_kmeans
from memedit.modeling.lower_blocks import ffn_inputs, length_batches, pad_right
from memedit.pretraining.corpus import CorpusFact
from memedit.progress import NULL_PROGRESS, Progress

# Shares of the relations' scatter in what is to be told apart and in what is to be ignored, and the ridge in
# units of the within-class scatter's mean diagonal; chosen on the split slots-dev.
RELATIONS_APART = 0.1
RELATIONS_ALIKE = 0.1
RIDGE = 0.1
DIRECTIONS = 96
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
        samples = _answer_windows(model, tokenizer, facts, layer, memory.window, progress)
        windows = samples.windows
        directions, mean = _directions(samples), windows.mean(0)
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


class _Samples(NamedTuple):
    """Query windows where the next token is part of an answer.

    Attributes:
        windows: fp32 [samples, window * hidden_size].
        classes: int64 [samples], which answer token of which fact it is.
        groups: int64 [classes], which answer token of which relation.
    """

    windows: Tensor
    classes: Tensor
    groups: Tensor


def _answer_windows(
    model: MemoryLlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[CorpusFact],
    layer: int,
    window: int,
    progress: Progress,
) -> _Samples:
    """Read the windows of all wordings of the facts."""
    rows, owners = [], []
    for index, fact in enumerate(facts):
        for prompt in (*fact.prompts, *fact.held_out):
            rows.append(encode_fact(tokenizer, model.config, prompt, f" {fact.target}"))
            owners.append(index)
    longest = max(len(row.answer_ids) for row in rows)
    found: list[Tensor] = []
    labels: list[Tensor] = []
    with progress.task("Reading answers", len(rows)) as task:
        for batch in length_batches([len(row.ids) for row in rows], _BATCH_TOKENS):
            _, normalised = ffn_inputs(model, layer, pad_right([rows[at].ids[:-1] for at in batch]))
            windows = query_windows(normalised, window)
            for line, at in enumerate(batch):
                places = torch.arange(rows[at].num_prompt - 1, len(rows[at].ids) - 1)
                found.append(windows[line, places].float())
                labels.append(owners[at] * longest + torch.arange(len(places)))
            task.advance(len(batch))
    present, classes = torch.cat(labels).unique(return_inverse=True)
    relations = {name: place for place, name in enumerate(dict.fromkeys(fact.relation for fact in facts))}
    relation_of = torch.tensor([relations[fact.relation] for fact in facts])
    groups = relation_of[present // longest] * longest + present % longest
    return _Samples(torch.cat(found), classes, groups.unique(return_inverse=True)[1])


def _directions(samples: _Samples) -> Tensor:
    """Directions in which facts of a relation differ, each with the same spread of facts.

    Returns:
        fp32 [window * hidden_size, at most DIRECTIONS], strongest first.
    """
    windows, classes, groups = samples
    means = _means(windows, classes)
    group_means = _means(means, groups)
    within = _scatter(windows - means[classes])
    apart = _scatter(means - group_means[groups])
    relations = _scatter(group_means[groups] - means.mean(0))
    ridge = RIDGE * within.diagonal().mean() * torch.eye(len(within))
    ignored = within + RELATIONS_ALIKE * relations + ridge
    inverse = torch.linalg.inv(torch.linalg.cholesky(ignored))
    told = inverse @ (apart + RELATIONS_APART * relations) @ inverse.T
    values, vectors = torch.linalg.eigh(told)
    values, vectors = values.flip(0)[:DIRECTIONS], vectors.flip(1)[:, :DIRECTIONS]
    directions: Tensor = inverse.T @ vectors / values.clamp(min=1e-4).sqrt()
    return directions


def _means(samples: Tensor, classes: Tensor) -> Tensor:
    """Mean of each class, [classes, dim]."""
    counts = torch.bincount(classes).float()[:, None]
    return torch.zeros(len(counts), samples.shape[1]).index_add_(0, classes, samples) / counts


def _scatter(deviations: Tensor) -> Tensor:
    return deviations.T @ deviations / len(deviations)
