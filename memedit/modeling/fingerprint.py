"""The fingerprint of a base model: a store must never be opened with another one."""

import hashlib
import json

import torch
from torch import Tensor, nn

from memedit.modeling.arithmetic import stored_dtypes
from memedit.modeling.memory_table import OVERLAY_BUFFERS
from memedit.modeling.model import MemoryLlamaForCausalLM

_ARCHITECTURE_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "rope_parameters",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
)

# Fields that came after the first stores: as long as they say what was always so, they do not count.
_LATER_FIELDS = {"memory_variant": "values", "memory_write_position": "subject"}


def model_fingerprint(model: MemoryLlamaForCausalLM) -> str:
    """Hash what an edit rests on: configuration, dense weights, routing and base values, but not the overlay.

    Args:
        model: the model; its overlays make no difference.

    Returns:
        SHA-256 as 64 hexadecimal digits.
    """
    config = model.config.to_dict()
    fields = {
        name: config.get(name)
        for name in sorted({*_ARCHITECTURE_FIELDS, *(name for name in config if name.startswith("memory_"))})
        if not name.startswith("memory_overlay_")
        and not (name in _LATER_FIELDS and config[name] == _LATER_FIELDS[name])
    }
    return weights_digest(model, json.dumps(fields, sort_keys=True, default=str))


def weights_digest(model: nn.Module, about: str) -> str:
    """Hash a model's parameters as they are stored, overlays excepted, and a text that says what else counts.

    Args:
        model: any model.
        about: settings that belong to the identity.

    Returns:
        SHA-256 as 64 hexadecimal digits.
    """
    digest, dtypes = hashlib.sha256(about.encode()), stored_dtypes(model)
    for name, parameter in sorted(model.named_parameters()):
        if name.rpartition(".")[2] not in OVERLAY_BUFFERS:
            tensor = parameter.detach().to(dtypes.get(name, parameter.dtype))
            digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(_tensor_bytes(tensor))
    return digest.hexdigest()


def _tensor_bytes(tensor: Tensor) -> memoryview:
    # numpy knows no bfloat16; the bytes are the same under any view.
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
