"""The two files of a consolidated checkpoint: params.json, and the weights of consolidated.pth.

Nothing in them can run: the pickle is read by torch's weights-only reader. The weights stay on disk (mmap)
until they are used, and weights that shared one storage when they were saved share it again.
"""

import json
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memedit.errors import UsageError
from memedit.modeling.safetensors_writing import TYPE_NAMES

PARAMS_FILE, WEIGHTS_FILE = "params.json", "consolidated.pth"
# Modules that torch.compile, activation checkpointing, FSDP and DDP put around others, as parts of a name.
_WRAPPERS = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "module"})
# What torch's readers raise on a file that is damaged, of the old format, or made to do harm.
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    pickle.UnpicklingError,
)


class LinguaCheckpoint(NamedTuple):
    """A checkpoint as read.

    Attributes:
        params: the model arguments of params.json.
        weights: the tensors by name, wrappers' prefixes taken off; on disk until they are used.
    """

    params: dict[str, Any]
    weights: dict[str, Tensor]


def read_checkpoint(folder: Path) -> LinguaCheckpoint:
    """Read params.json, and open the weights.

    Args:
        folder: holds params.json (model arguments under "model" or at top level) and consolidated.pth
            (weights under "model").

    Raises:
        UsageError: when a file is missing, damaged, holds something else, or two weights have one name.
    """
    for name in (PARAMS_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UsageError(
                f"CHECKPOINT: {folder} has no {name}",
                remedy=f"Name the folder of a consolidated checkpoint, which holds {PARAMS_FILE} and "
                f"{WEIGHTS_FILE}.",
            )
    return LinguaCheckpoint(_read_params(folder / PARAMS_FILE), _open_weights(folder / WEIGHTS_FILE))


def _read_params(path: Path) -> dict[str, Any]:
    try:
        params = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is no JSON file: {error}", remedy="Write it anew, or fetch it again."
        ) from error
    inner = params.get("model", params) if isinstance(params, dict) else params
    if not isinstance(inner, dict):
        raise UsageError(
            f"{path}: got {type(inner).__name__}, expected an object with the model arguments",
            remedy='They are looked for under "model", else at top level.',
        )
    return inner


def _open_weights(path: Path) -> dict[str, Tensor]:
    try:
        stored = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except _UNREADABLE as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"{path} cannot be read as plain tensors: {said}",
            remedy="Save it anew where you trust it, with torch.save({'model': model.state_dict()}, ...); a "
            "file that could run code, or of the format before torch 1.6, is not read.",
        ) from error
    weights = stored.get("model") if isinstance(stored, dict) else None
    if not isinstance(weights, dict):
        found = sorted(map(str, stored)) if isinstance(stored, dict) else type(stored).__name__
        raise UsageError(
            f'{path}: got {found}, expected the weights under "model"',
            remedy="Consolidate the checkpoint first; a single rank's shard does not hold the model.",
        )
    return _by_plain_name(path, weights)


def _by_plain_name(path: Path, weights: dict[Any, Any]) -> dict[str, Tensor]:
    plain: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for given, tensor in weights.items():
        name = ".".join(part for part in str(given).split(".") if part not in _WRAPPERS)
        if name in plain:
            raise UsageError(f"{path}: {origin[name]} and {given} are both {name}", remedy="Leave one out.")
        if not isinstance(tensor, Tensor) or tensor.dtype not in TYPE_NAMES or tensor.layout != torch.strided:
            got = f"a tensor of {tensor.dtype}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise UsageError(
                f"{path}: {given}: got {got}, expected a dense tensor of float32, bfloat16 or float16",
                remedy="Convert or leave it out where the checkpoint is saved.",
            )
        plain[name], origin[name] = tensor.detach(), str(given)
    return plain
