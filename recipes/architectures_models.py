"""The five architectures of the comparison, at equal work: their widths are solved, not guessed.

What: `KINDS`, `Size`, and `equal_configs`, which gives the configuration of every kind at one size.
Why: a memory layer costs its queries, sub-keys and rows. Only when the FFNs beside it are as much wider or
narrower as it is cheaper or dearer than the FFN in whose place it stands do two models cost the same.
How: `model_account` counts a candidate; the width of its FFNs (or experts) is searched by bisection until the
FLOPs of its forward are those of the dense model, the head left out: the head is the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import MixtralConfig, MixtralForCausalLM, PreTrainedConfig, PreTrainedModel

from memedit.modeling import MemoryLlamaConfig, MemoryLlamaForCausalLM
from memedit.modeling.accounting import model_account

DENSE, MOE, PEER, MEMORY, MEMORY_PLUS = "dense", "moe", "peer", "memory", "memory+"
KINDS = (DENSE, MOE, PEER, MEMORY, MEMORY_PLUS)
MEMORY_KINDS = (PEER, MEMORY, MEMORY_PLUS)
# Largest difference in FLOPs between a model and the dense one, head left out.
TOLERANCE = 0.02
_WIDEST = 1 << 16


@dataclass(frozen=True)
class Size:
    """Shape of the dense model, and what is the same in all memory layers.

    Attributes:
        name: as it stands in the results.
        hidden: width of the residual stream.
        width: of the dense model's FFNs.
        num_keys: sub-keys per half, n; a table has n * n slots.
        blocks: how many.
        attention_heads: of each block.
        heads: look-ups of a memory layer.
        top_k: slots of each look-up.
        experts: of each block of the mixture; two are chosen.
        context: tokens that a token attends to in the account: the mean length of a row.
    """

    name: str
    hidden: int
    width: int
    num_keys: int
    blocks: int = 4
    attention_heads: int = 4
    heads: int = 2
    top_k: int = 8
    experts: int = 8
    context: int = 12


@dataclass(frozen=True)
class Tokens:
    """What a model must know of its tokenizer."""

    vocab_size: int
    special: int = 0


@dataclass(frozen=True)
class Costed:
    """A configuration, and what it costs.

    Attributes:
        kind: one of KINDS.
        config: of the model.
        flops: of its forward per token, head left out.
        head_flops: of the head per token, the same for all kinds of a size.
        parts: by part, "parameters", "active_parameters" and "flops".
    """

    kind: str
    config: PreTrainedConfig
    flops: int
    head_flops: int
    parts: Mapping[str, Mapping[str, int]] = field(repr=False)

    def total(self, what: str) -> int:
        """Sum of "parameters", "active_parameters" or "flops" over all parts."""
        return sum(part[what] for part in self.parts.values())


def equal_configs(
    size: Size, tokens: Tokens, memory: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Costed]:
    """The configuration of every kind, at the FLOPs of the dense model.

    Args:
        size: the dense model's.
        tokens: vocabulary and special token.
        memory: further fields of MemoryLlamaConfig, by kind.

    Returns:
        By kind, the dense one first.

    Raises:
        ValueError: when no width of its FFNs gives a kind the FLOPs of the dense model.
    """
    wanted = costed(DENSE, size, tokens, size.width)
    found = {DENSE: wanted}
    for kind in KINDS[1:]:
        found[kind] = _at_flops(kind, size, tokens, wanted.flops, (memory or {}).get(kind, {}))
    return found


def costed(
    kind: str, size: Size, tokens: Tokens, width: int, memory: Mapping[str, Any] | None = None
) -> Costed:
    """Build a configuration and count it.

    Args:
        kind: one of KINDS.
        size: of the model.
        tokens: vocabulary and special token.
        width: of its FFNs, or of each expert.
        memory: further fields of a MemoryLlamaConfig.
    """
    config = _config(kind, size, tokens, width, memory or {})
    account = model_account(config, size.context)
    parts = {
        part.name: {
            "parameters": part.parameters,
            "active_parameters": part.active_parameters,
            "flops": part.flops,
        }
        for part in account.parts
    }
    head = parts["head"]["flops"]
    return Costed(kind, config, account.flops() - head, head, parts)


def built(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A model with random weights, in evaluation mode.

    Args:
        config: of a memory-layer Llama or a Mixtral.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel
        if isinstance(config, MixtralConfig):
            model = MixtralForCausalLM(config)
        else:
            assert isinstance(config, MemoryLlamaConfig)
            model = MemoryLlamaForCausalLM(config)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _at_flops(kind: str, size: Size, tokens: Tokens, flops: int, memory: Mapping[str, Any]) -> Costed:
    """The width at which a kind comes nearest to so many FLOPs."""
    low, high = 1, _WIDEST
    if costed(kind, size, tokens, low, memory).flops > flops:
        raise ValueError(
            f"{kind} at {size.name}: its memory layers or attention alone cost more than the dense model's "
            f"{flops} FLOPs per token; give fewer sub-keys, heads or slots, or a wider dense model"
        )
    while high - low > 1:
        middle = (low + high) // 2
        if costed(kind, size, tokens, middle, memory).flops <= flops:
            low = middle
        else:
            high = middle
    nearest = min(
        (costed(kind, size, tokens, width, memory) for width in (low, high)),
        key=lambda one: abs(one.flops - flops),
    )
    if abs(nearest.flops / flops - 1) > TOLERANCE:
        raise ValueError(
            f"{kind} at {size.name}: no width of its FFNs gives the dense model's {flops} FLOPs per token, "
            f"the nearest has {nearest.flops}; leave it a block with an FFN"
        )
    return nearest


def _config(kind: str, size: Size, tokens: Tokens, width: int, memory: Mapping[str, Any]) -> PreTrainedConfig:
    shape: dict[str, Any] = {
        "hidden_size": size.hidden,
        "intermediate_size": width,
        "num_hidden_layers": size.blocks,
        "num_attention_heads": size.attention_heads,
        "num_key_value_heads": size.attention_heads,
        "tie_word_embeddings": True,
        "attn_implementation": "sdpa",
        "vocab_size": tokens.vocab_size,
        "bos_token_id": tokens.special,
        "eos_token_id": tokens.special,
        "pad_token_id": tokens.special,
    }
    if kind == MOE:
        mixture: dict[str, Any] = {
            "num_local_experts": size.experts,
            "num_experts_per_tok": 2,
            # The grouped product of torch wants widths of whole 16 bytes; this one takes any.
            "experts_implementation": "eager",
        }
        return MixtralConfig(**shape, **mixture)
    fields: dict[str, Any] = {} if kind == DENSE else {**_memory_fields(kind, size), **memory}
    return MemoryLlamaConfig(**shape, **fields)


def _memory_fields(kind: str, size: Size) -> dict[str, Any]:
    """Where the memory stands: one layer in the middle, or three around it that share a table."""
    middle = size.blocks // 2
    layers = [middle - 1, middle, middle + 1] if kind == MEMORY_PLUS else [middle]
    return {
        "memory_layers": layers,
        "memory_placement": "replace",
        "memory_num_keys": size.num_keys,
        "memory_key_dim": size.hidden // 2,
        "memory_heads": size.heads,
        "memory_top_k": size.top_k,
        "memory_gated_output": kind == MEMORY_PLUS,
        "memory_variant": "peer" if kind == PEER else "values",
    }
