"""Weights that a checkpoint holds under several names: a value table that layers share, a tied output matrix.

Names of one storage are one weight already. Copies that were stored apart must agree bit for bit; then one of
them is used and the others are left out.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from memedit.errors import UsageError
from memedit.modeling.configuration import MemoryLlamaConfig
from memedit.modeling.lingua.checkpoint import WEIGHTS_FILE
from memedit.modeling.lingua.params import MEMORY_ARGUMENTS
from memedit.modeling.lingua.tensors import Renamed, table_names
from memedit.modeling.safetensors_writing import pieces
from memedit.progress import Progress, Task

OUTPUT, EMBEDDING = "output.weight", "tok_embeddings.weight"


def copied_weights(
    config: MemoryLlamaConfig, weights: Mapping[str, Tensor], expected: list[Renamed]
) -> dict[str, str]:
    """Name the weights that stand for another one, each with that one's name.

    Args:
        config: the model's configuration.
        weights: the checkpoint's weights by name.
        expected: every weight of the model, the value tables last.
    """
    names = {each.source for each in expected}
    originals = [(name, expected[-1].source) for name in table_names(config)]
    if config.tie_word_embeddings:
        originals.append((OUTPUT, EMBEDDING))
    return {copy: original for copy, original in originals if copy in weights and copy not in names}


def require_equal(copies: Mapping[str, str], weights: Mapping[str, Tensor], progress: Progress) -> None:
    """Compare copies with their originals, bit by bit; names of one storage need no reading.

    Args:
        copies: from copied_weights; shapes agree.
        weights: the checkpoint's weights by name.
        progress: told of the bytes that are compared.

    Raises:
        UsageError: when copies differ; the message names the layers.
    """
    pairs = {copy: (weights[copy], weights[original]) for copy, original in copies.items()}
    apart = {copy: pair for copy, pair in pairs.items() if not is_one_storage(*pair)}
    if not apart:
        return
    total = sum(one.nbytes for one, _ in apart.values())
    with progress.task("Comparing copies of shared weights", total) as task:
        different = [copy for copy, pair in apart.items() if not _has_same_bits(*pair, task)]
    if OUTPUT in different:
        raise UsageError(
            f"{WEIGHTS_FILE}: {OUTPUT} differs from {EMBEDDING}, expected one matrix (weight_tying)",
            remedy='Set "weight_tying": false in params.json if the model has two.',
        )
    if different:
        layers = ", ".join(copy.split(".")[1] for copy in different)
        raise UsageError(
            f"{WEIGHTS_FILE}: the value tables (feed_forward.values.weight) of layers {layers} differ from "
            f"that of layer {copies[different[0]].split('.')[1]}, expected copies of one shared table",
            remedy=f'Set "mem_share_values": false under "{MEMORY_ARGUMENTS}" in params.json if each layer '
            "has a table of its own.",
        )


def is_one_storage(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape are the same place in memory, or in the file."""
    return (one.data_ptr(), one.stride(), one.dtype) == (other.data_ptr(), other.stride(), other.dtype)


def _has_same_bits(one: Tensor, other: Tensor, task: Task) -> bool:
    if one.dtype != other.dtype:
        return False
    bits = {4: torch.int32, 2: torch.int16}[one.dtype.itemsize]
    for part, same in zip(pieces(one), pieces(other), strict=True):
        if not torch.equal(part.view(bits), same.view(bits)):
            return False
        task.advance(part.nbytes)
    return True
