"""The memory-layer Llama: configuration, memory layer, model, overlays, and how text becomes tokens for it.

Importing this package registers the model with transformers' Auto classes.
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from memedit.modeling.configuration import MemoryLlamaConfig
from memedit.modeling.encoding import EncodedFact, bos_ids, encode_fact, prompt_ids
from memedit.modeling.fingerprint import model_fingerprint
from memedit.modeling.loading import from_llama, load_memory_llama
from memedit.modeling.memory_layer import MemoryLayer, query_windows
from memedit.modeling.memory_table import GatedLookup, MemoryTable
from memedit.modeling.model import MemoryLlamaForCausalLM, MemoryLlamaModel
from memedit.modeling.overlay import (
    NOT_WRITTEN,
    UNGATED,
    Overlay,
    lookup_owners,
    ownership_gate,
    written_rows,
)

AutoConfig.register(MemoryLlamaConfig.model_type, MemoryLlamaConfig, exist_ok=True)
AutoModel.register(MemoryLlamaConfig, MemoryLlamaModel, exist_ok=True)
AutoModelForCausalLM.register(MemoryLlamaConfig, MemoryLlamaForCausalLM, exist_ok=True)

__all__ = [
    "NOT_WRITTEN",
    "UNGATED",
    "EncodedFact",
    "GatedLookup",
    "MemoryLayer",
    "MemoryLlamaConfig",
    "MemoryLlamaForCausalLM",
    "MemoryLlamaModel",
    "MemoryTable",
    "Overlay",
    "bos_ids",
    "encode_fact",
    "from_llama",
    "load_memory_llama",
    "lookup_owners",
    "model_fingerprint",
    "ownership_gate",
    "prompt_ids",
    "query_windows",
    "written_rows",
]
