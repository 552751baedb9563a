"""How many bytes a model's weights take, in memory and as they are stored, part by part.

What: `weight_bytes`, in the parts of accounting.py, and what is written on top.
Why: the same weights may be held in fp32 and stored in bf16 (arithmetic.py), and a table may be larger than
the rest of the model.
How: every parameter and every stored buffer of the live model is looked at; tied weights count once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.modeling.arithmetic import stored_dtypes
from memedit.modeling.memory_table import OVERLAY_BUFFERS
from memedit.modeling.model import MemoryLlamaForCausalLM

OVERLAY = "overlay"
"""The part of the written rows, their owners and gates: no parameters, but bytes."""

# By what a name holds, the first that fits.
_PARTS = (
    ("embed_tokens", "embeddings"),
    ("lm_head", "head"),
    ("self_attn", "attention"),
    ("mlp", "ffn"),
    ("memory.query_projection", "query_projection"),
    ("memory.norm", "query_norm"),
    ("memory.sub_keys", "sub_keys"),
    ("memory.gate_projection", "output_path"),
    ("memory.output_projection", "output_path"),
    ("norm", "norms"),
)


@dataclass(frozen=True)
class PartBytes:
    """The bytes of one part.

    Attributes:
        parameters: how many numbers, without buffers.
        in_memory: bytes in the type in which the model computes.
        on_disk: bytes in the type in which save_pretrained stores it.
    """

    parameters: int = 0
    in_memory: int = 0
    on_disk: int = 0


def weight_bytes(model: MemoryLlamaForCausalLM) -> dict[str, PartBytes]:
    """Count the bytes of a model's weights.

    Args:
        model: the model, with the overlays that it wears.

    Returns:
        By part, those without weights left out.
    """
    found: dict[str, PartBytes] = {}
    stored = stored_dtypes(model)
    kept = model.state_dict()
    buffers = [(name, buffer) for name, buffer in model.named_buffers() if name in kept]
    for name, tensor in (*model.named_parameters(), *buffers):
        part = found.get(_part(name), PartBytes())
        own = tensor.numel() if isinstance(tensor, torch.nn.Parameter) else 0
        found[_part(name)] = PartBytes(
            part.parameters + own,
            part.in_memory + _bytes(tensor, tensor.dtype),
            part.on_disk + _bytes(tensor, stored.get(name, tensor.dtype)),
        )
    return found


def _part(name: str) -> str:
    last = name.rpartition(".")[2]
    if last in OVERLAY_BUFFERS:
        return OVERLAY
    if "memory_tables." in name:
        return {"values": "values", "inputs": "expert_inputs"}[last]
    return next(part for held, part in _PARTS if held in name)


def _bytes(tensor: Tensor, dtype: torch.dtype) -> int:
    return tensor.numel() * dtype.itemsize
