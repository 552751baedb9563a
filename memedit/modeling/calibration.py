"""Fitting a retrofit's routing in closed form: no gradient, no facts.

A plain Llama's hidden state says a lot about the template and little about the subject. Linear discriminant
analysis over a window of hidden states finds the directions that separate made-up names sharing a part and
ignore the sentence around them; each head sees those directions through a random rotation, and its sub-keys
are k-means centres of background text and names. Heads have windows of different lengths: short ones
recognise a short subject in any sentence, long ones tell long names apart that end alike.

Source: linear discriminant analysis, Fisher 1936; product keys, Lample et al. 2019 (arXiv 1907.05242). The
window, its mixed lengths and the name groups are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from memedit.modeling.calibration_names import CONTEXTS, CalibrationName
from memedit.modeling.encoding import bos_ids
from memedit.modeling.lower_blocks import ffn_inputs, length_batches, pad_right
from memedit.modeling.portable.window_state import query_windows
from memedit.progress import NULL_PROGRESS, Progress

BATCH_TOKENS = 2048


@dataclass(frozen=True)
class RoutingSettings:
    """How a retrofit routes.

    Attributes:
        layer: block that carries the memory layer; None = chosen by trial (RoutingChooser), with the
            temperature, or a fifth of the way up where nobody is there to choose.
        num_keys: sub-keys per half, n; the table has n * n slots.
        key_dim: width of a head's query, both halves together.
        head_windows: for each head, how many tokens its query sees.
        top_k: slots per head and token.
        temperature: factor on the cosines before the softmax.
        discriminants: directions kept from the discriminant analysis.
        ridge: added to the within-name covariance, in units of its mean diagonal.
        name_weight: weight of the names against the background in k-means.
        kmeans_steps: iterations of k-means.
        seed: of rotations, samples and k-means.
    """

    layer: int | None = None
    num_keys: int = 512
    key_dim: int = 128
    head_windows: tuple[int, ...] = (1, 2, 4, 6)
    top_k: int = 16
    temperature: float = 20.0
    discriminants: int = 256
    ridge: float = 1.0
    name_weight: float = 1.0
    kmeans_steps: int = 6
    seed: int = 0


@dataclass(frozen=True)
class RoutingTrial:
    """How the gates of made-up names behaved with one layer and temperature.

    Attributes:
        layer: block that carried the memory layer.
        temperature: factor on the cosines before the softmax.
        opened: share of unseen contexts in which a name's gate opened, 0 to 1.
        leaked: share of look-alikes at which a gate opened, 0 to 1.
        num_contexts: contexts that `opened` counts.
        num_look_alikes: look-alikes that `leaked` counts.
        chosen: the retrofit routes like this.
    """

    layer: int
    temperature: float
    opened: float
    leaked: float
    num_contexts: int
    num_look_alikes: int
    chosen: bool = False


class RoutingChooser(Protocol):
    """Tries layers and temperatures where the user gives no layer.

    Trials need slot selection, which lies above this package: memedit.editing.routing_trials has them.
    """

    def __call__(
        self,
        llama: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerBase,
        rows: Sequence[Sequence[int]],
        openings: Sequence[str],
        settings: RoutingSettings,
        *,
        bos: Sequence[int],
        progress: Progress = NULL_PROGRESS,
    ) -> tuple[RoutingSettings, tuple[RoutingTrial, ...]]:
        """Choose.

        Args:
            llama: the model; it is read only.
            tokenizer: its tokenizer.
            rows: background documents as tokens.
            openings: sentences of background text.
            settings: sizes and seeds.
            bos: begin tokens.
            progress: told of what is done.

        Returns:
            The settings with layer and temperature, and what was tried.
        """
        ...


@dataclass(frozen=True)
class Routing:
    """A fitted routing.

    Attributes:
        query_weight: fp32 [heads * key_dim, window * hidden_size]; zero beyond a head's own window.
        query_bias: fp32 [heads * key_dim].
        sub_keys: fp32 [heads, 2, n, key_dim / 2], rows of length 1.
    """

    query_weight: Tensor
    query_bias: Tensor
    sub_keys: Tensor


@torch.no_grad()
def name_windows(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    layer: int,
    sentences: Sequence[tuple[str, str]],
    window: int,
    *,
    bos: Sequence[int] | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Tensor:
    """Read the window of hidden states at the last token of a name in each sentence.

    Args:
        model: the Llama to read.
        tokenizer: its tokenizer.
        layer: block whose FFN inputs are read.
        sentences: (text, name) pairs; the name's last occurrence counts.
        window: tokens read, the name's last token first.
        bos: tokens put in front; None = what the tokenizer names.
        progress: told of rows done.

    Returns:
        fp16 [sentences, window, hidden_size].
    """
    bos = bos_ids(tokenizer, model.config) if bos is None else bos
    rows = [up_to_name(tokenizer, bos, text, name) for text, name in sentences]
    found = torch.empty(len(rows), window, model.config.hidden_size, dtype=torch.float16)
    with progress.task("Reading names in context", len(rows)) as task:
        for batch in length_batches([len(row) for row in rows], BATCH_TOKENS):
            ids = pad_right([rows[index] for index in batch])
            _, normalised = ffn_inputs(model, layer, ids.to(model.device))
            last = torch.tensor([len(rows[index]) - 1 for index in batch])
            back = (last[:, None] - torch.arange(window)).clamp(min=0)
            found[batch] = normalised[torch.arange(len(batch))[:, None], back].half().cpu()
            task.advance(len(batch))
    return found


def up_to_name(tokenizer: PreTrainedTokenizerBase, bos: Sequence[int], text: str, name: str) -> list[int]:
    """Return the tokens of a text up to the last token that holds a character of the name.

    Args:
        tokenizer: the model's tokenizer.
        bos: tokens put in front.
        text: holds the name; its last occurrence counts.
        name: the name.
    """
    end = text.rindex(name) + len(name)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    kept = [
        token
        for token, (start, _) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        if start < end
    ]
    return [*bos, *kept]


def calibration_sentences(
    names: Sequence[CalibrationName], openings: Sequence[str], *, num_random: int = 4, seed: int = 0
) -> list[list[tuple[str, str]]]:
    """Put every name into the same generic contexts and behind some random opening sentences.

    Args:
        names: the names.
        openings: sentences of background text.
        num_random: contexts per name that start with a random opening.
        seed: of the random choice.

    Returns:
        One list of (text, name) a name, all of the same length.
    """
    generator = torch.Generator().manual_seed(seed)

    def pick(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator))

    told = []
    for item in names:
        fixed = [(context.format(item.name), item.name) for context in CONTEXTS]
        opened = [
            (f"{openings[pick(len(openings))]} {CONTEXTS[pick(len(CONTEXTS))].format(item.name)}", item.name)
            for _ in range(num_random if openings else 0)
        ]
        told.append(fixed + opened)
    return told


@torch.no_grad()
def fit_routing(
    windows: Tensor, groups: Sequence[str], background: Sequence[Tensor], settings: RoutingSettings
) -> Routing:
    """Fit query projection and sub-keys.

    Args:
        windows: [names, contexts, window, hidden_size] from name_windows, window = the longest head window.
        groups: one group a name.
        background: FFN inputs of background documents, each [time, hidden_size].
        settings: sizes and seeds.

    Returns:
        The routing, rounded to what bf16 holds, so that it is the same after being stored.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    longest, hidden_size = max(settings.head_windows), windows.shape[-1]
    fitted: dict[int, tuple[Tensor, Tensor]] = {}
    weights, biases, sub_keys = [], [], []
    for window in settings.head_windows:
        names = windows[:, :, :window].flatten(2).float()
        if window not in fitted:
            fitted[window] = (
                discriminants(names, groups, settings.discriminants, settings.ridge),
                names.mean((0, 1)),
            )
        directions, mean = fitted[window]
        rotation = _rotation(directions.shape[1], settings.key_dim, generator)
        projection = (directions @ rotation).bfloat16().float()
        bias = -(mean @ projection)
        samples, importance = _key_samples(names.flatten(0, 1), background, window, settings, generator)
        queries = samples @ projection + bias
        sub_keys.append(
            torch.stack(
                [
                    spherical_kmeans(half, importance, settings.num_keys, settings.kmeans_steps, generator)
                    for half in queries.chunk(2, -1)
                ]
            )
        )
        weights.append(functional.pad(projection.T, (0, (longest - window) * hidden_size)))
        biases.append(bias)
    return Routing(torch.cat(weights), torch.cat(biases), torch.stack(sub_keys).bfloat16().float())


def discriminants(samples: Tensor, groups: Sequence[str], count: int, ridge: float) -> Tensor:
    """Directions that separate the members of a group and ignore the context.

    Generalised eigenvectors of S_between (names around the mean of their group) against S_within (one name
    across contexts) + ridge. S_between has the rank of the number of names, so the problem is solved in that
    size.

    Args:
        samples: fp32 [names, contexts, dim].
        groups: one group a name.
        count: directions wanted; fewer come back when there are fewer names or dimensions.
        ridge: in units of the mean diagonal of S_within.

    Returns:
        fp32 [dim, at most count], unit variance within names.
    """
    num_names, _, dim = samples.shape
    means = samples.mean(1)
    within = (samples - means[:, None]).flatten(0, 1)
    scatter = within.T @ within / len(within)
    scatter += ridge * scatter.diagonal().mean() * torch.eye(dim)
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    between = means.clone()
    for rows in members.values():
        between[rows] -= means[rows].mean(0)
    between /= num_names**0.5
    solved = torch.cholesky_solve(between.T, torch.linalg.cholesky(scatter))
    values, vectors = torch.linalg.eigh(between @ solved)
    keep = min(count, num_names - len(members), dim)
    values, vectors = values.flip(0)[:keep], vectors.flip(1)[:, :keep]
    directions: Tensor = solved @ vectors / values.clamp(min=1e-9).sqrt()
    return directions


def _rotation(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Rows and columns of a random rotation."""
    size = max(rows, columns)
    rotation: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    return rotation[:rows, :columns]


def _key_samples(
    names: Tensor,
    background: Sequence[Tensor],
    window: int,
    settings: RoutingSettings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Windows on which sub-keys are fitted, [samples, window * hidden_size], and their weights, [samples]."""
    text = torch.cat([query_windows(states[None].float(), window)[0, 4:] for states in background])
    text = text[torch.randperm(len(text), generator=generator)[:4000]]
    names = names[torch.randperm(len(names), generator=generator)[:4000]]
    share = settings.name_weight * len(text) / max(1, len(names))
    return torch.cat([text, names]), torch.cat([torch.ones(len(text)), torch.full((len(names),), share)])


def spherical_kmeans(
    points: Tensor, importance: Tensor, num_keys: int, steps: int, generator: torch.Generator
) -> Tensor:
    """Centres of length 1; an empty centre starts anew at a random point.

    Args:
        points: fp32 [points, dim], of any length.
        importance: [points], weights.
        num_keys: how many centres.
        steps: iterations.
        generator: of what is random.

    Returns:
        fp32 [num_keys, dim].
    """
    points = functional.normalize(points, dim=-1)

    def draw(count: int) -> Tensor:
        return points[
            torch.multinomial(importance, count, replacement=count > len(points), generator=generator)
        ]

    centres = draw(num_keys)
    for _ in range(steps):
        nearest = (points @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points * importance[:, None])
        empty = torch.bincount(nearest, minlength=num_keys) == 0
        if bool(empty.any()):
            sums[empty] = draw(int(empty.sum()))
        centres = functional.normalize(sums, dim=-1)
    return centres
