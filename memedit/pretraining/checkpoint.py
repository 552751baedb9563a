"""A checkpoint of a pretraining: one safetensors file, put on disk wholly or not at all.

It holds every weight, the optimizers' state, and which step comes next. Batches follow from seed and step, so
that is all that a training needs to go on to the bit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from memedit.errors import UsageError
from memedit.pretraining.value_rows import ValueRows
from memedit.store.durable_file import write_durably

FORMAT = "memedit-pretraining-1"


@dataclass(frozen=True)
class Checkpoint:
    """What a killed training left.

    Attributes:
        about: phase, step, loss, log: plain JSON.
        tensors: weights and state by name.
    """

    about: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def training_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, values: ValueRows | None
) -> dict[str, Tensor]:
    """Everything that a step changes, by a name that stays the same; the tensors themselves, not copies."""
    found = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    # Tied weights have two names and one storage.
    seen: dict[int, str] = {}
    for name in list(found):
        first = seen.setdefault(found[name].data_ptr(), name) if found[name].numel() else name
        if first != name:
            del found[name]
    if optimizer is not None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for index, parameter in enumerate(parameters):
            for name, tensor in optimizer.state[parameter].items():
                found[f"dense.{index}.{name}"] = tensor
    if values is not None:
        found |= dict(values.tensors())
    return found


def save_checkpoint(path: Path, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint over the last one.

    Args:
        path: the file; its folder exists.
        about: plain JSON.
        tensors: from training_tensors.
    """
    kept = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "about": json.dumps(about)}
    write_durably(path, save(kept, metadata=metadata))


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Read the checkpoint of a killed training; None = there is none.

    Raises:
        UsageError: when it is damaged or of another format.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
        about = json.loads(metadata["about"])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise UsageError(
            f"{path}: not a usable checkpoint ({error})", remedy="Delete it to begin anew."
        ) from error
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f"{path}: a checkpoint of format {metadata.get('format')!r}, expected {FORMAT!r}",
            remedy="Delete it to begin anew.",
        )
    return Checkpoint(about, tensors)


@torch.no_grad()
def restore(tensors: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint's tensors into those of a training.

    Args:
        tensors: of the checkpoint.
        into: from training_tensors.

    Raises:
        UsageError: when a tensor is missing, left over or of another shape.
    """
    if tensors.keys() != into.keys():
        odd = sorted(tensors.keys() ^ into.keys())[:3]
        raise UsageError(
            f"the checkpoint is of another model or phase: {', '.join(odd)} differ",
            remedy="Give the settings that it was made with, or another --out.",
        )
    for name, tensor in tensors.items():
        if tensor.shape != into[name].shape:
            raise UsageError(
                f"the checkpoint's {name} is {tuple(tensor.shape)}, expected {tuple(into[name].shape)}",
                remedy="Give the settings that it was made with, or another --out.",
            )
        into[name].copy_(tensor)
