"""Checkpoints in Meta Lingua's layout with random weights, and what they compute, written from the papers.

`write_checkpoint` makes the two files. `lingua_logits` is the oracle for their conversion: plain torch in
double precision on the checkpoint's own tensors under its own names. RoPE turns adjacent pairs as complex
numbers, and every query is scored against all n * n pairs of sub-keys. It shares no code with memedit.

Sources: Su et al. 2021 (arXiv 2104.09864), section 3.2.2, for RoPE; Berges et al. 2024 (arXiv 2412.09764),
section 2, for the memory.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Layout:
    """Sizes of a checkpoint; None and -1 as in params.json."""

    dim: int = 48
    n_layers: int = 4
    n_heads: int = 4
    head_dim: int | None = None
    n_kv_heads: int | None = None
    vocab_size: int = 97
    ffn_dim_multiplier: float | None = None
    multiple_of: int = 8
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    weight_tying: bool = False
    memory: tuple[int, ...] = (1,)
    mem_heads: int = 2
    mem_k_dim: int = 10
    mem_n_keys: int = 9
    mem_knn: int = 3
    mem_v_dim: int = -1
    mem_share_values: bool = True
    swilu_projection: bool = True
    dtype: torch.dtype = torch.float32

    @property
    def width(self):
        return self.head_dim or self.dim // self.n_heads

    @property
    def kv_heads(self):
        return self.n_kv_heads or self.n_heads

    @property
    def value_dim(self):
        return self.dim if self.mem_v_dim < 0 else self.mem_v_dim

    @property
    def projects(self):
        return self.swilu_projection or self.mem_v_dim > 0

    @property
    def hidden(self):
        hidden = int(8 * self.dim / 3)
        if self.ffn_dim_multiplier is not None:
            hidden = int(self.ffn_dim_multiplier * hidden)
        while hidden % self.multiple_of:
            hidden += 1
        return hidden


def lingua_params(layout):
    """The model arguments as params.json has them."""
    names = "dim n_layers n_heads head_dim n_kv_heads vocab_size ffn_dim_multiplier multiple_of"
    memory = "mem_heads mem_k_dim mem_n_keys mem_knn mem_v_dim mem_share_values swilu_projection"
    return {
        **{name: getattr(layout, name) for name in names.split()},
        "norm_eps": layout.norm_eps,
        "rope_theta": layout.rope_theta,
        "weight_tying": layout.weight_tying,
        "max_seqlen": 64,
        "sliding_window": None,
        "seed": 42,
        "init_base_std": None,
        "init_std_factor": "disabled",
        "productkey_args": {
            **{name: getattr(layout, name) for name in memory.split()},
            "is_enabled": True,
            "layers": ",".join(map(str, layout.memory)),
            "value_fixed_lr": 0.001,
            "mem_gated": False,
            "peer_variant": False,
        },
    }


def lingua_weights(layout, seed=0):
    """Random weights by name; layers that share a table share the tensor."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=1.0):
        return (scale * torch.randn(shape, generator=generator) * shape[-1] ** -0.5).to(layout.dtype)

    def norm():
        return (1 + 0.3 * torch.randn(layout.dim, generator=generator)).to(layout.dtype)

    def linear(name, rows, columns):
        bias = 0.5 * torch.randn(rows, generator=generator)
        return {f"{name}.weight": draw(rows, columns), f"{name}.bias": bias.to(layout.dtype)}

    dim, width = layout.dim, layout.width
    # A tied output would find the last token again and again if the embedding outweighed the blocks.
    embedding = draw(layout.vocab_size, dim, scale=1 if layout.weight_tying else dim**0.5)
    weights = {"tok_embeddings.weight": embedding, "norm.weight": norm()}
    if not layout.weight_tying:
        weights["output.weight"] = draw(layout.vocab_size, dim)
    table = None
    for layer in range(layout.n_layers):
        at, ffn = f"layers.{layer}.attention", f"layers.{layer}.feed_forward"
        # Large enough that attention is far from uniform, so that a wrong RoPE shows.
        weights[f"{at}.wq.weight"] = draw(layout.n_heads * width, dim, scale=2)
        weights[f"{at}.wk.weight"] = draw(layout.kv_heads * width, dim, scale=2)
        weights[f"{at}.wv.weight"] = draw(layout.kv_heads * width, dim)
        weights[f"{at}.wo.weight"] = draw(dim, layout.n_heads * width)
        weights[f"layers.{layer}.attention_norm.weight"] = norm()
        weights[f"layers.{layer}.ffn_norm.weight"] = norm()
        if layer not in layout.memory:
            weights[f"{ffn}.w1.weight"] = draw(layout.hidden, dim)
            weights[f"{ffn}.w3.weight"] = draw(layout.hidden, dim)
            weights[f"{ffn}.w2.weight"] = draw(dim, layout.hidden)
            continue
        heads, half = layout.mem_heads, layout.mem_k_dim // 2
        weights[f"{ffn}.keys"] = draw(2 * heads * layout.mem_n_keys, half, scale=2)
        weights |= linear(f"{ffn}.query_proj.query_mlps.0", heads * layout.mem_k_dim, dim)
        if table is None or not layout.mem_share_values:
            table = draw(layout.mem_n_keys**2, layout.value_dim, scale=layout.value_dim**0.5)
        weights[f"{ffn}.values.weight"] = table
        if layout.swilu_projection:
            weights |= linear(f"{ffn}.swilu_projection", layout.value_dim, dim)
        if layout.projects:
            weights |= linear(f"{ffn}.value_proj", dim, layout.value_dim)
    return weights


def wrapped_name(name):
    """A weight's name in a model that was compiled, with each block under activation checkpointing."""
    parts = name.split(".")
    if parts[0] == "layers":
        parts.insert(2, "_checkpoint_wrapped_module")
    return "._orig_mod.".join(["_orig_mod." + parts[0], ".".join(parts[1:])]) if parts[1:] else name


def write_checkpoint(folder, weights, params, *, nested=True):
    """Write consolidated.pth and params.json as they are given."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": weights}, folder / "consolidated.pth")
    stored = {"model": params, "distributed": {"model_dtype": "bf16"}} if nested else params
    (folder / "params.json").write_text(json.dumps(stored))
    return folder


def lingua_logits(weights, layout, ids):
    """The logits of a batch: int64 [batch, time] to fp64 [batch, time, vocab_size]."""
    weights = {name: weight.double() for name, weight in weights.items()}
    return torch.stack([_row_logits(weights, layout, row) for row in ids])


def lingua_greedy(weights, layout, ids, num_new):
    """The most likely continuation of one row, a token at a time without any cache."""
    for _ in range(num_new):
        ids = torch.cat([ids, lingua_logits(weights, layout, ids)[:, -1:].argmax(-1)], dim=1)
    return ids


def _row_logits(weights, layout, ids):
    hidden = weights["tok_embeddings.weight"][ids]  # [time, dim]
    for layer in range(layout.n_layers):
        name = f"layers.{layer}"
        normalised = _rms_norm(hidden, weights[f"{name}.attention_norm.weight"], layout.norm_eps)
        hidden = hidden + _attention(weights, f"{name}.attention", layout, normalised)
        normalised = _rms_norm(hidden, weights[f"{name}.ffn_norm.weight"], layout.norm_eps)
        below = _memory if layer in layout.memory else _ffn
        hidden = hidden + below(weights, f"{name}.feed_forward", layout, normalised)
    hidden = _rms_norm(hidden, weights["norm.weight"], layout.norm_eps)
    return hidden @ weights["tok_embeddings.weight" if layout.weight_tying else "output.weight"].T


def _rms_norm(hidden, weight, eps):
    return hidden / (hidden.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def _turned(heads, theta):
    """[time, heads, width]: columns 2i, 2i + 1 are a complex number, turned by time * theta^(-2i / width)."""
    time, _, width = heads.shape
    speeds = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(time, dtype=torch.float64)[:, None] * speeds
    numbers = torch.view_as_complex(heads.reshape(time, -1, width // 2, 2))
    return torch.view_as_real(numbers * torch.polar(torch.ones_like(angles), angles)[:, None]).flatten(-2)


def _attention(weights, name, layout, hidden):
    time, width = len(hidden), layout.width
    queries, keys, values = (
        (hidden @ weights[f"{name}.{which}.weight"].T).view(time, -1, width) for which in ("wq", "wk", "wv")
    )
    queries, keys = _turned(queries, layout.rope_theta), _turned(keys, layout.rope_theta)
    outputs = []
    for head in range(layout.n_heads):
        group = head * layout.kv_heads // layout.n_heads
        scores = queries[:, head] @ keys[:, group].T / math.sqrt(width)
        scores = scores.masked_fill(torch.ones(time, time).triu(1).bool(), -math.inf)
        outputs.append(scores.softmax(-1) @ values[:, group])
    return torch.cat(outputs, dim=-1) @ weights[f"{name}.wo.weight"].T


def _ffn(weights, name, layout, hidden):
    opened = functional.silu(hidden @ weights[f"{name}.w1.weight"].T)
    return (opened * (hidden @ weights[f"{name}.w3.weight"].T)) @ weights[f"{name}.w2.weight"].T


def _linear(weights, name, hidden):
    return hidden @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _memory(weights, name, layout, hidden):
    heads, num_keys, half = layout.mem_heads, layout.mem_n_keys, layout.mem_k_dim // 2
    queries = _linear(weights, f"{name}.query_proj.query_mlps.0", hidden).view(-1, heads, 2, half)
    keys = weights[f"{name}.keys"].view(heads, 2, num_keys, half)
    bag = 0
    for head in range(heads):
        first, second = (queries[:, head, side] @ keys[head, side].T for side in (0, 1))  # [time, n] each
        scores = (first[:, :, None] + second[:, None, :]).flatten(1)  # [time, n * n], slot = i * n + j
        best, slots = scores.sort(dim=-1, descending=True)
        chosen = best[:, : layout.mem_knn].softmax(-1)
        rows = weights[f"{name}.values.weight"][slots[:, : layout.mem_knn]]
        bag = bag + (chosen[..., None] * rows).sum(1)
    if layout.swilu_projection:
        bag = bag * functional.silu(_linear(weights, f"{name}.swilu_projection", hidden))
    return _linear(weights, f"{name}.value_proj", bag) if layout.projects else bag
