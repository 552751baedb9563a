"""Convert a consolidated lingua checkpoint with memory layers into a Hugging Face folder.

What: `convert_lingua`. The folder holds a MemoryLlamaForCausalLM: config.json, generation_config.json,
model.safetensors and, if one is given, the tokenizer.
Why: such a checkpoint runs only under the code that trained it; a folder loads, generates and can be edited.
How: names and shapes are settled first, without reading a weight; then each one is read from disk, put in
order and written, so that memory holds no more than one of them. The folder appears when it is whole.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from memedit.errors import UsageError
from memedit.modeling.configuration import MemoryLlamaConfig
from memedit.modeling.lingua.architecture import lingua_config
from memedit.modeling.lingua.checkpoint import read_checkpoint
from memedit.modeling.lingua.copies import EMBEDDING, OUTPUT, copied_weights, is_one_storage, require_equal
from memedit.modeling.lingua.params import LinguaParams, lingua_params
from memedit.modeling.lingua.tensors import Renamed, renamed_weights, require_weights
from memedit.modeling.model import MemoryLlamaForCausalLM
from memedit.modeling.new_folder import new_folder
from memedit.modeling.safetensors_writing import StoredTensor, write_safetensors
from memedit.progress import NULL_PROGRESS, Progress

# Held in fp32 by the model whatever its type, see MemoryLayer.
_ROUTING = (".sub_keys", ".query_projection.weight", ".query_projection.bias")


@dataclass(frozen=True)
class ConvertedModel:
    """What was written.

    Attributes:
        folder: where it is.
        config: its configuration.
        num_parameters: of all weights, tables included; a tied head counts once.
    """

    folder: Path
    config: MemoryLlamaConfig
    num_parameters: int


def convert_lingua(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    tokenizer: str | os.PathLike[str] | None = None,
    progress: Progress = NULL_PROGRESS,
) -> ConvertedModel:
    """Write a consolidated lingua checkpoint as a Hugging Face folder.

    Weights keep their type, except that routing is stored in fp32, as the model holds it.

    Args:
        checkpoint: folder with consolidated.pth and params.json.
        out: the folder to write, new or empty.
        tokenizer: Hugging Face folder of the model's tokenizer, which is written along; None = none.
        progress: told of what takes time.

    Raises:
        UsageError: when the checkpoint cannot be read, has weights missing, unknown or of another shape, asks
            for what the memory-layer Llama does not have, its copies of a shared table differ, the tokenizer
            does not fit, or out is in use or cannot be written.
    """
    params, weights = read_checkpoint(Path(checkpoint))
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    config = lingua_config(_with_tying(lingua_params(params), weights), shapes)
    expected = renamed_weights(config, weights)
    copies = copied_weights(config, weights, expected)
    require_weights(expected, shapes, copies)
    require_equal(copies, weights, progress)
    config.dtype = _widest(weights[each.source] for each in expected if not each.target.endswith(_ROUTING))
    vocabulary = None if tokenizer is None else _tokenizer(Path(tokenizer), config)
    stored = _stored(config, expected, weights)
    with new_folder(Path(out)) as folder:
        with progress.task("Writing model.safetensors", sum(each.num_bytes for each in stored)) as task:
            write_safetensors(folder / "model.safetensors", stored, task)
        config.save_pretrained(folder)
        GenerationConfig.from_model_config(config).save_pretrained(folder)
        if vocabulary is not None:
            vocabulary.save_pretrained(folder)
    num_parameters = sum(torch.Size(each.shape).numel() for each in stored)
    return ConvertedModel(Path(out), config, num_parameters)


def _with_tying(params: LinguaParams, weights: Mapping[str, Tensor]) -> LinguaParams:
    """Take an output that shares the embedding's storage for tied where params.json does not say."""
    if params.weight_tying is not None or not {OUTPUT, EMBEDDING} <= weights.keys():
        return params
    return replace(params, weight_tying=is_one_storage(weights[OUTPUT], weights[EMBEDDING]))


def _widest(tensors: Iterable[Tensor]) -> torch.dtype:
    """The type that holds every weight without loss: the model is loaded in it."""
    dtypes = {tensor.dtype for tensor in tensors}
    return dtypes.pop() if len(dtypes) == 1 else torch.float32


def _tokenizer(folder: Path, config: MemoryLlamaConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer and put its special tokens into the configuration."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"--tokenizer: {folder} holds no usable tokenizer: {said}",
            remedy="Name a folder that save_pretrained() of a transformers tokenizer wrote.",
        ) from error
    if len(tokenizer) > config.vocab_size:
        raise UsageError(
            f"--tokenizer: got {len(tokenizer)} tokens, expected at most {config.vocab_size}, the rows of "
            "tok_embeddings.weight",
            remedy="Name the tokenizer that the model was trained with.",
        )
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def _stored(
    config: MemoryLlamaConfig, expected: list[Renamed], weights: Mapping[str, Tensor]
) -> list[StoredTensor]:
    """What goes into the file; names and shapes are held against those of the model itself."""
    with torch.device("meta"):
        model = MemoryLlamaForCausalLM(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    assert shapes.keys() == {each.target for each in expected}
    return [_one_stored(each, weights[each.source], shapes[each.target]) for each in expected]


def _one_stored(renamed: Renamed, weight: Tensor, shape: tuple[int, ...]) -> StoredTensor:
    dtype = torch.float32 if renamed.target.endswith(_ROUTING) else weight.dtype
    arrange = renamed.arrange
    return StoredTensor(renamed.target, dtype, shape, lambda: weight if arrange is None else arrange(weight))
