"""The memory-layer Llama: configuration, memory layer, model, overlays, and how text becomes tokens for it.

What: the names below; the modules hold the rest.
Why lazy: named models are listed and described without torch, so names are imported on first use (PEP 562).
The first one that needs the model registers it with transformers' Auto classes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memedit.modeling.configuration import MemoryLlamaConfig as MemoryLlamaConfig
    from memedit.modeling.encoding import EncodedFact as EncodedFact
    from memedit.modeling.encoding import bos_ids as bos_ids
    from memedit.modeling.encoding import encode_fact as encode_fact
    from memedit.modeling.encoding import prompt_ids as prompt_ids
    from memedit.modeling.fingerprint import model_fingerprint as model_fingerprint
    from memedit.modeling.loading import from_llama as from_llama
    from memedit.modeling.loading import load_memory_llama as load_memory_llama
    from memedit.modeling.memory_layer import MemoryLayer as MemoryLayer
    from memedit.modeling.memory_table import GatedLookup as GatedLookup
    from memedit.modeling.memory_table import MemoryTable as MemoryTable
    from memedit.modeling.memory_table import gated_look_ups as gated_look_ups
    from memedit.modeling.model import MemoryLlamaForCausalLM as MemoryLlamaForCausalLM
    from memedit.modeling.model import MemoryLlamaModel as MemoryLlamaModel
    from memedit.modeling.overlay import Overlay as Overlay
    from memedit.modeling.portable.window_state import query_windows as query_windows

_MODULES = {
    "encoding": ("EncodedFact", "bos_ids", "encode_fact", "prompt_ids"),
    "fingerprint": ("model_fingerprint",),
    "loading": ("from_llama", "load_memory_llama"),
    "memory_layer": ("MemoryLayer",),
    "memory_table": ("GatedLookup", "MemoryTable", "gated_look_ups"),
    # The configuration comes by way of the model, so that whoever has it can use the Auto classes.
    "model": ("MemoryLlamaConfig", "MemoryLlamaForCausalLM", "MemoryLlamaModel"),
    "overlay": ("Overlay",),
    "portable.window_state": ("query_windows",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'memedit.modeling' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"memedit.modeling.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
