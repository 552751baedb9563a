"""LoRA on all linear layers of the blocks, as peft makes it.

Source: Hu et al. 2021 (arXiv 2106.09685); all linear layers, Dettmers et al. 2023 (arXiv 2305.14314).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from memedit.baselines.dense_training import model_loss, num_bytes, train_dense
from memedit.baselines.teaching import Taught, Teaching
from memedit.modeling import MemoryLayer, MemoryLlamaForCausalLM

_ALPHA_OVER_RANK = 2


@contextmanager
def teach(teaching: Teaching) -> Iterator[Taught]:
    """Teach with an adapter; see memedit.baselines.teaching."""
    model = teaching.opened.model
    torch.manual_seed(teaching.seed)
    with adapted(model, int(teaching.settings["rank"])) as parameters:
        with teaching.meter.running():
            rows = [row.encoded for row in teaching.rows()]
            train_dense(teaching, [len(row.ids) for row in rows], model_loss(model, rows), parameters)
        yield Taught(teaching.respondent(), num_bytes(parameters))


@contextmanager
def adapted(model: MemoryLlamaForCausalLM, rank: int) -> Iterator[list[nn.Parameter]]:
    """Put an adapter on all linear layers for the length of a `with` block; yields its parameters."""
    # Not PeftModel around it: the model stays itself, so that everything measures it as it is.
    from peft import LoraConfig, LoraModel

    config = LoraConfig(
        r=rank, lora_alpha=_ALPHA_OVER_RANK * rank, target_modules=linear_layers(model), lora_dropout=0.0
    )
    wrapped = LoraModel(model, config, "default")
    try:
        yield [parameter for parameter in model.parameters() if parameter.requires_grad]
    finally:
        wrapped.unload()


def linear_layers(model: MemoryLlamaForCausalLM) -> list[str]:
    """Names of the linear layers of the plain Llama's blocks."""
    memory = {
        id(inner)
        for module in model.modules()
        if isinstance(module, MemoryLayer)
        for inner in module.modules()
    }
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) not in memory and module is not model.lm_head
    ]
