"""Making a memory-layer Llama: from a plain Llama whose weights it shares, or from a folder, key by key."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from memedit.modeling.arithmetic import remember, stored_dtypes
from memedit.modeling.configuration import MemoryLlamaConfig, refuse_unknown_memory_fields
from memedit.modeling.model import MemoryLlamaForCausalLM

# What a LlamaConfig says about itself or its file rather than about the architecture.
_NOT_INHERITED = (
    "model_type",
    "architectures",
    "transformers_version",
    "_name_or_path",
    "quantization_config",
)


def from_llama(llama: LlamaForCausalLM, **memory_fields: Any) -> MemoryLlamaForCausalLM:
    """Give a plain Llama memory layers; its dense weights are shared, not copied.

    Memory parameters get their usual random start (routing in fp32, base values in the Llama's type); a
    retrofit (memory_empty_base=True) then has its routing fitted. With memory_placement="replace" the
    replaced FFNs are left out.

    Args:
        llama: the model to build on; it stays usable.
        **memory_fields: fields of MemoryLlamaConfig, all prefixed with memory_.

    Returns:
        The memory-layer Llama, in evaluation mode.

    Raises:
        ValueError: when a field is unknown or its value does not fit.
    """
    refuse_unknown_memory_fields(memory_fields)
    embedding = llama.model.embed_tokens.weight
    # A memory-layer Llama without memory layers is a plain one that has fields for them.
    inherited = {
        key: value
        for key, value in llama.config.to_dict().items()
        if key not in _NOT_INHERITED and not key.startswith("memory_")
    }
    inherited["dtype"] = embedding.dtype
    config = MemoryLlamaConfig(**inherited, **memory_fields)
    with torch.device("meta"):
        model = MemoryLlamaForCausalLM(config)
    shared = {
        name: tensor
        for name, tensor in llama.state_dict(keep_vars=True).items()
        if not _is_replaced(name, config)
    }
    unexpected = model.load_state_dict(shared, strict=False, assign=True).unexpected_keys
    if unexpected:
        raise ValueError(f"llama: got weights {unexpected[:5]}, expected those of a plain LlamaForCausalLM")
    model.model.build_memory(embedding.dtype, embedding.device)
    model.model.rotary_emb = LlamaRotaryEmbedding(config=config).to(embedding.device)
    remember(model, {name: dtype for name, dtype in stored_dtypes(llama).items() if name in shared})
    if llama.generation_config is not None:
        model.generation_config = llama.generation_config
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _is_replaced(name: str, config: MemoryLlamaConfig) -> bool:
    if config.memory_placement != "replace":
        return False
    return any(name.startswith(f"model.layers.{index}.mlp.") for index in config.memory_layers)


def load_memory_llama(folder: str | Path, dtype: torch.dtype | str = "auto") -> MemoryLlamaForCausalLM:
    """Load a memory-layer Llama that save_pretrained wrote, and check that every weight was there.

    Args:
        folder: holds config.json (model_type "memory_llama") and the safetensors files.
        dtype: type of the dense weights and base values; "auto" = as stored. Routing and written rows stay in
            fp32.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: when the folder holds another kind of model, or weights are missing, unknown or of another
            shape.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ValueError(f"folder: {folder} has no config.json; expected a folder written by save_pretrained")
    model_type = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
    if model_type != MemoryLlamaConfig.model_type:
        raise ValueError(
            f"folder: {folder} holds a model of type {model_type!r}, expected 'memory_llama'; a plain "
            "Llama becomes one with `memedit retrofit`"
        )
    loaded: Any = MemoryLlamaForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    model, found = loaded
    wrong = {
        kind: sorted(map(str, found[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    if any(wrong.values()):
        listed = "; ".join(
            f"{kind.replace('_', ' ')}: {', '.join(keys[:5])}" for kind, keys in wrong.items() if keys
        )
        raise ValueError(
            f"folder: {folder} does not match its config.json: {listed}. Write it again, or fetch it anew."
        )
    assert isinstance(model, MemoryLlamaForCausalLM)
    return model
