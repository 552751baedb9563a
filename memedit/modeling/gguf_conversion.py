"""Turn a GGUF file into an ordinary bf16 Hugging Face folder, once.

What: `convert_gguf` writes config.json, model.safetensors, generation_config.json and the tokenizer.
Why: transformers dequantises GGUF anew at each load (25 s), and refuses `save_pretrained` on such a model.
How: load through transformers, rebuild a `LlamaForCausalLM` from the same configuration without its
quantisation part, move the weights over, save, load again, and compare the key sets and the tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedit.errors import ModelUnavailable

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

__all__ = ["convert_gguf"]

# What a GGUF load leaves in a configuration that says nothing about the model.
_DROPPED = ("quantization_config", "transformers_version", "_name_or_path", "_model_name_or_path")
_SAMPLES = (
    "The capital of France is Paris.",
    " two  spaces\n\tand a tab",
    "na\u00efve \u4f60\u597d \u0645\u0631\u062d\u0628\u0627 \U0001f600",
    "12345 snake_case don't I'll",
    "<|endoftext|><|im_start|>user",
)


def convert_gguf(gguf: Path, out: Path, *, bos_token_id: int | None = None) -> None:
    """Dequantise a Llama in a GGUF file and save it as a bf16 safetensors folder.

    Args:
        gguf: The GGUF file of a Llama.
        out: The folder to write, which is made.
        bos_token_id: Token that memedit puts in front of each prompt, recorded in the configuration as
            `memedit_bos_token_id`; None leaves that to the tokenizer.
    Raises:
        ModelUnavailable: The file is no Llama, or the saved folder does not hold the same model.
    """
    with _quiet_transformers():
        model = _dequantise(gguf, bos_token_id)
        tokenizer = _tokenizer(gguf.parent, gguf_file=gguf.name)
        out.mkdir(parents=True)
        model.save_pretrained(out, max_shard_size="100GB")
        tokenizer.save_pretrained(out)
        _check_saved(out, tokenizer)


def _dequantise(gguf: Path, bos_token_id: int | None) -> LlamaForCausalLM:
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    if loaded.config.model_type != "llama":
        raise ModelUnavailable(f"{gguf.name} holds a {loaded.config.model_type} model; expected a llama.")
    fields = {key: value for key, value in loaded.config.to_dict().items() if key not in _DROPPED}
    # GGUF stores the epsilon in fp32: 9.999999747378752e-06 stands for 1e-05.
    fields["rms_norm_eps"] = float(str(np.float32(fields["rms_norm_eps"])))
    if bos_token_id is not None:
        fields["memedit_bos_token_id"] = bos_token_id
    model = LlamaForCausalLM(LlamaConfig(**fields)).bfloat16()
    _require_no_gaps(model.load_state_dict(loaded.state_dict(), strict=False)._asdict(), gguf.name)
    return model


def _tokenizer(folder: Path, **options: Any) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **options)
    return tokenizer


def _require_no_gaps(keys: dict[str, Any], name: str) -> None:
    gaps = {kind: sorted(keys[kind]) for kind in ("missing_keys", "unexpected_keys") if keys[kind]}
    if gaps:
        raise ModelUnavailable(f"{name} does not hold exactly the weights of a LlamaForCausalLM: {gaps}.")


def _check_saved(out: Path, original: PreTrainedTokenizerBase) -> None:
    """Load what was written; compare keys, token ids, decoded text and chat template with the original."""
    import torch
    from transformers import LlamaForCausalLM

    loaded: Any = LlamaForCausalLM.from_pretrained(out, dtype=torch.bfloat16, output_loading_info=True)
    _require_no_gaps(loaded[1], out.name)
    saved = _tokenizer(out)
    if saved.chat_template != original.chat_template:
        raise ModelUnavailable(f"The tokenizer saved in {out} lost its chat template.")
    for text in _SAMPLES:
        ids = original(text).input_ids
        if saved(text).input_ids != ids or saved.decode(ids) != original.decode(ids):
            raise ModelUnavailable(f"The tokenizer saved in {out} encodes {text!r} differently.")


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers from writing bars and notices over our own progress, and put its settings back."""
    from transformers import modeling_gguf_pytorch_utils as gguf_loading
    from transformers.utils import logging

    # This bar does not go through transformers' own switch for bars.
    tensor_bar = getattr(gguf_loading, "tqdm", None)
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    vars(gguf_loading)["tqdm"] = lambda tensors, **_options: tensors
    try:
        yield
    finally:
        vars(gguf_loading)["tqdm"] = tensor_bar
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
