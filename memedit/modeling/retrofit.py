"""Retrofit: memory layers for a plain pretrained Llama, without training it.

The routing is fitted to the model's own activations (calibration.py), the values are zero and not stored, so
the model's outputs stay what they were until something is injected. A retrofit (routing and background
statistics) is a few MB and can be kept apart from the model; the one of the named model is shipped with the
package.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from memedit.errors import ModelUnavailable, UsageError
from memedit.modeling.background import (
    BackgroundStatistics,
    background_states,
    count_slots,
    documents,
    opening_sentences,
)
from memedit.modeling.calibration import (
    Routing,
    RoutingChooser,
    RoutingSettings,
    RoutingTrial,
    calibration_sentences,
    fit_routing,
    name_windows,
)
from memedit.modeling.calibration_names import calibration_names
from memedit.modeling.encoding import bos_ids
from memedit.modeling.loading import from_llama
from memedit.modeling.model import MemoryLlamaForCausalLM
from memedit.progress import NULL_PROGRESS, Progress

FORMAT = "memedit-retrofit-1"
NUM_DOCUMENTS = 250


@dataclass(frozen=True)
class Retrofit:
    """What turns a plain Llama into a memory-layer Llama.

    Attributes:
        routing: query projection and sub-keys.
        background: slot document frequencies.
        settings: how it was fitted; settings.layer is a number.
        bos_token_id: begin token that memedit puts in front of prompts; None = what the tokenizer names.
        trials: what was tried to choose layer and temperature; empty when the layer was given.
    """

    routing: Routing
    background: BackgroundStatistics
    settings: RoutingSettings
    bos_token_id: int | None
    trials: tuple[RoutingTrial, ...] = ()


def fit_retrofit(
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    settings: RoutingSettings | None = None,
    *,
    bos_token_id: int | None = None,
    choose: RoutingChooser | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Retrofit:
    """Calibrate a retrofit for a plain Llama.

    Args:
        llama: the model; it is read only.
        tokenizer: its tokenizer.
        texts: background text.
        settings: sizes and seeds; None = the defaults.
        bos_token_id: begin token; None = what the tokenizer names.
        choose: chooses layer and temperature where the settings name no layer; None = a fifth of the way up.
        progress: told of what is done.

    Returns:
        The retrofit.

    Raises:
        UsageError: when the texts are too short to count anything in.
    """
    settings = settings or RoutingSettings()
    bos = bos_ids(tokenizer, llama.config) if bos_token_id is None else [bos_token_id]
    rows = background_documents(tokenizer, bos, texts)
    openings = opening_sentences(texts)
    trials: tuple[RoutingTrial, ...] = ()
    if settings.layer is None and choose is not None:
        settings, trials = choose(llama, tokenizer, rows, openings, settings, bos=bos, progress=progress)
    layer = llama.config.num_hidden_layers // 5 if settings.layer is None else settings.layer
    settings = replace(settings, layer=layer)
    states = background_states(llama, layer, rows, progress)
    names = calibration_names()
    told = calibration_sentences(names, openings, seed=settings.seed)
    flat = [pair for sentences in told for pair in sentences]
    window = max(settings.head_windows)
    windows = name_windows(llama, tokenizer, layer, flat, window, bos=bos, progress=progress)
    windows = windows.view(len(names), -1, window, llama.config.hidden_size)
    with progress.task("Fitting the routing", None):
        routing = fit_routing(windows, [name.group for name in names], states, settings)
    empty = BackgroundStatistics.empty(settings.num_keys**2)
    model = apply_retrofit(llama, Retrofit(routing, empty, settings, bos_token_id))
    background = count_slots(model, rows, states, progress)
    return Retrofit(routing, background, settings, bos_token_id, trials)


def background_documents(
    tokenizer: PreTrainedTokenizerBase, bos: Sequence[int], texts: Sequence[str]
) -> list[list[int]]:
    """Cut background texts into the documents that slots are counted in.

    Args:
        tokenizer: the model's.
        bos: begin tokens.
        texts: background text.

    Raises:
        UsageError: when the texts are too short to count anything in.
    """
    rows = documents(tokenizer, bos, texts, limit=NUM_DOCUMENTS)
    if not rows:
        raise UsageError(
            f"background: got {len(texts)} texts, each of fewer than some 16 tokens, expected general prose",
            remedy="Give some 50 pages of general text.",
        )
    return rows


def apply_retrofit(llama: LlamaForCausalLM, retrofit: Retrofit) -> MemoryLlamaForCausalLM:
    """Put a retrofit's memory layer beside an FFN of a plain Llama; the dense weights are shared, not copied.

    Raises:
        ModelUnavailable: when the retrofit was fitted to a model of another shape.
    """
    settings, routing = retrofit.settings, retrofit.routing
    window = max(settings.head_windows)
    expected = window * llama.config.hidden_size
    if routing.query_weight.shape[1] != expected:
        raise ModelUnavailable(
            f"the retrofit reads {routing.query_weight.shape[1]} features a token, the model has {expected}",
            remedy="Calibrate it for this model: memedit retrofit MODEL OUT.",
        )
    model = from_llama(
        llama,
        memory_layers=[settings.layer],
        memory_placement="parallel",
        memory_num_keys=settings.num_keys,
        memory_key_dim=settings.key_dim,
        memory_heads=len(settings.head_windows),
        memory_top_k=settings.top_k,
        memory_query_window=window,
        memory_query_norm="halves",
        memory_temperature=settings.temperature,
        memory_empty_base=True,
        memory_bos_token_id=retrofit.bos_token_id,
    )
    (memory,) = model.memory_layers().values()
    with torch.no_grad():
        memory.query_projection.weight.copy_(routing.query_weight)
        memory.query_projection.bias.copy_(routing.query_bias)
        memory.sub_keys.copy_(routing.sub_keys)
    return model


def save_retrofit(path: str | Path, retrofit: Retrofit) -> None:
    """Write a retrofit as safetensors: each head's own part of the projection in bf16, counts in 16 bits."""
    settings, routing = retrofit.settings, retrofit.routing
    width = routing.query_weight.shape[1] // max(settings.head_windows)
    tensors = {
        "query_bias": routing.query_bias,
        "sub_keys": routing.sub_keys.bfloat16(),
        "document_frequency": retrofit.background.document_frequency.to(torch.int16),
        "sample_slots": retrofit.background.sample_slots,
        "sample_weights": retrofit.background.sample_weights,
        "sample_tokens": retrofit.background.sample_tokens,
    }
    for head, (weight, window) in enumerate(
        zip(routing.query_weight.split(settings.key_dim), settings.head_windows, strict=True)
    ):
        tensors[f"query_weight.{head}"] = weight[:, : window * width].bfloat16().contiguous()
    about = {
        "format": FORMAT,
        "settings": asdict(settings),
        "num_documents": retrofit.background.num_documents,
        "bos_token_id": retrofit.bos_token_id,
        "trials": [asdict(trial) for trial in retrofit.trials],
    }
    save_file(tensors, str(path), metadata={"memedit": json.dumps(about)})


def load_retrofit(path: str | Path) -> Retrofit:
    """Read a retrofit that save_retrofit wrote.

    Raises:
        ModelUnavailable: when the file is missing, damaged or of another format.
    """
    try:
        with safe_open(str(path), framework="pt") as stored:
            about = json.loads((stored.metadata() or {}).get("memedit", "{}"))
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ModelUnavailable(
            f"{path}: not a readable retrofit ({error})",
            remedy="Delete it; it is calibrated anew on next use.",
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ModelUnavailable(
            f"{path}: not a retrofit of format {FORMAT!r}",
            remedy="Delete it; it is calibrated anew on next use.",
        )
    try:
        return _assembled(about, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelUnavailable(
            f"{path}: an incomplete retrofit ({error!r})",
            remedy="Delete it; it is calibrated anew on next use.",
        ) from error


def _assembled(about: dict[str, Any], tensors: dict[str, Tensor]) -> Retrofit:
    fields = about["settings"]
    settings = RoutingSettings(**{**fields, "head_windows": tuple(fields["head_windows"])})
    width = tensors["query_weight.0"].shape[1] // settings.head_windows[0] * max(settings.head_windows)
    weight = torch.zeros(len(settings.head_windows) * settings.key_dim, width)
    for head, rows in enumerate(weight.split(settings.key_dim)):
        part = tensors[f"query_weight.{head}"].float()
        rows[:, : part.shape[1]] = part
    routing = Routing(weight, tensors["query_bias"], tensors["sub_keys"].float())
    background = BackgroundStatistics(
        tensors["document_frequency"].to(torch.int32),
        about["num_documents"],
        tensors["sample_slots"],
        tensors["sample_weights"],
        tensors["sample_tokens"],
    )
    # Retrofits of earlier versions know of no trials.
    trials = tuple(RoutingTrial(**trial) for trial in about.get("trials", ()))
    return Retrofit(routing, background, settings, about["bos_token_id"], trials)
