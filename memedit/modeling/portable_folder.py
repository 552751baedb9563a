"""A model as a Hugging Face folder that loads where memedit is not installed.

What: `save_portable` writes weights (the overlay that is set among them), configuration with `auto_map`,
generation configuration, tokenizer, and the code that `trust_remote_code=True` runs.
Why: what a model was taught must be usable by whoever has transformers; and nothing may be exported that the
code in the folder would compute otherwise, so `require_portable` refuses options that it does not know.
"""

from __future__ import annotations

import json
from dataclasses import fields
from importlib import resources
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from memedit.errors import UsageError
from memedit.modeling.configuration import MemoryLlamaConfig
from memedit.modeling.model import MemoryLlamaForCausalLM
from memedit.modeling.portable import configuration_memory_llama as portable

CODE_FILES = (
    "configuration_memory_llama.py",
    "modeling_memory_llama.py",
    "query_norm.py",
    "slot_search.py",
    "window_state.py",
)
AUTO_MAP = {
    "AutoConfig": "configuration_memory_llama.MemoryLlamaConfig",
    "AutoModel": "modeling_memory_llama.MemoryLlamaModel",
    "AutoModelForCausalLM": "modeling_memory_llama.MemoryLlamaForCausalLM",
}


def memory_defaults(config_class: type[PreTrainedConfig]) -> dict[str, object]:
    """Return the fields of a configuration that start with `memory_`, with their defaults."""
    blank = config_class()
    return {
        field.name: getattr(blank, field.name)
        for field in fields(config_class)
        if field.name.startswith("memory_")
    }


def require_portable(config: MemoryLlamaConfig) -> None:
    """Refuse a model that the code in an exported folder does not know how to compute.

    Raises:
        UsageError: naming the field, its value, and what the code knows.
    """
    known = memory_defaults(portable.MemoryLlamaConfig)
    for name, default in memory_defaults(type(config)).items():
        if name not in known and getattr(config, name) != default:
            raise UsageError(
                f"{name}: got {getattr(config, name)!r}, an option unknown to an exported model's code",
                remedy="Update memedit, or share the store and the base model (docs/export.md).",
            )
    for name, choices in portable.CHOICES.items():
        if getattr(config, name) not in choices:
            raise UsageError(
                f"{name}: got {getattr(config, name)!r}, an exported model's code knows {', '.join(choices)}",
                remedy="Update memedit, or share the store and the base model (docs/export.md).",
            )


def save_portable(model: MemoryLlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model, the overlay that it wears, its tokenizer and its code.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        folder: an empty folder.

    Raises:
        UsageError: when the code in the folder would not know an option of the model.
    """
    require_portable(model.config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["auto_map"] = AUTO_MAP
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    sources = resources.files("memedit.modeling.portable")
    for name in CODE_FILES:
        (folder / name).write_text(sources.joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
