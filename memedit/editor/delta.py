"""The edits alone: a folder of patches, and the routing that a retrofit added, to be put onto the base model.

What: `write_delta` and `load_delta`.
Why: a few MB say all that was taught; whoever has the base model needs no copy of it.
How: `memedit_config.json` names the base model, its fingerprint and every file with its SHA-256; patches are
those of the store without what was withdrawn. Of a plain Llama the base is its retrofit, whose routing is in
the folder: the model is built from both, and its fingerprint must be the recorded one.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor
from transformers import LlamaForCausalLM

from memedit import __version__
from memedit.editor.base_model import BaseModel
from memedit.editor.overlays import composed_overlay
from memedit.errors import FingerprintMismatch, StoreCorrupt, StoreTooNew, UsageError
from memedit.modeling import MemoryLlamaForCausalLM, from_llama, model_fingerprint
from memedit.modeling.opening import load_base
from memedit.progress import NULL_PROGRESS, Progress
from memedit.store import Patch, Store, read_patch, write_patch
from memedit.store.edit_export import carried_patch

CONFIG_FILE = "memedit_config.json"
FORMAT, FORMAT_VERSION = "memedit-delta", 1
_ROUTING_FILE = "routing.safetensors"
_PATCHES = "patches"
_AGAIN = "Get the folder again from where it came from."


def write_delta(model: MemoryLlamaForCausalLM, store: Store, base: BaseModel, folder: Path) -> None:
    """Write the active patches, the routing of a retrofit, and what they belong to.

    Args:
        model: the base model; what it wears makes no difference.
        store: its edits, one of them active.
        base: what the base model is called.
        folder: an empty folder.
    """
    standing = store.standing()
    (folder / _PATCHES).mkdir()
    edits = []
    for edit in standing.edits:
        # The store's own file may hold rows that were forgotten since.
        patch = carried_patch(store, edit.id, standing)
        name = f"{_PATCHES}/{edit.id}.safetensors"
        written = write_patch(folder / name, patch)
        described = {"edit": edit.id, "created": edit.created, "kind": edit.kind, "seed": edit.seed}
        described["num_facts"] = sum(stored.active for stored in store.facts(edit.id))
        edits.append({**described, "file": name, "sha256": written.sha256, "num_bytes": written.num_bytes})
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "memedit_version": __version__,
        "base_model": base.name,
        "base_model_origin": base.origin,
        "base_model_licence": base.licence,
        "fingerprint": store.fingerprint,
        "retrofit": _written_routing(model, folder) if model.config.memory_empty_base else None,
        "edits": edits,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_delta(
    folder: str | os.PathLike[str],
    model: str | os.PathLike[str] | LlamaForCausalLM | None = None,
    *,
    progress: Progress = NULL_PROGRESS,
) -> MemoryLlamaForCausalLM:
    """Put exported edits onto their base model.

    Args:
        folder: what `memedit export OUT --delta` wrote.
        model: the base model: a named model, a local folder, a hub id, or a Llama that is loaded already in
            the type of its file (its weights are shared, not copied). None = the one that the folder names.
        progress: told of what takes time.

    Returns:
        The model with the edits, in evaluation mode; `set_overlay(model.edited_table, None)` takes them off.

    Raises:
        FingerprintMismatch: when the edits were made for another model; both fingerprints are named.
        StoreCorrupt: when a file is missing or was changed.
        StoreTooNew: when a newer memedit wrote it.
        UsageError: when no base model is named that can be found here.
    """
    folder = Path(folder)
    config = _read_config(folder)
    given, called = _base(config, model, progress)
    built = (
        given if isinstance(given, MemoryLlamaForCausalLM) else _retrofitted(given, config, folder, called)
    )
    found, wanted = model_fingerprint(built), config["fingerprint"]
    if found != wanted:
        raise FingerprintMismatch(
            f"the edits in {folder} were made for the model with fingerprint {wanted}, {called} has {found}",
            remedy=f"Give the base model that they were made for ({config['base_model']}), in the type of "
            'its file (dtype="auto").',
        )
    built.set_overlay(built.edited_table, composed_overlay(built, _patches(config, folder)))
    built.eval()  # type: ignore[no-untyped-call]
    return built


def _base(
    config: dict[str, Any], model: str | os.PathLike[str] | LlamaForCausalLM | None, progress: Progress
) -> tuple[LlamaForCausalLM | MemoryLlamaForCausalLM, str]:
    """The base model, and what to call it in a message."""
    if isinstance(model, LlamaForCausalLM):
        return model, "the model that was given"
    named = os.fspath(config["base_model"] if model is None else model)
    try:
        return load_base(named, progress), named
    except UsageError as error:
        if model is not None:
            raise
        raise UsageError(
            f"the base model {named!r}, which the folder names, is not known here",
            remedy="Say where it is: load_delta(folder, model=...).",
        ) from error


def _retrofitted(
    llama: LlamaForCausalLM, config: dict[str, Any], folder: Path, called: str
) -> MemoryLlamaForCausalLM:
    """A plain Llama with the memory layers that the folder describes."""
    retrofit = config["retrofit"]
    if retrofit is None:
        raise FingerprintMismatch(
            f"the edits in {folder} were made for a memory-layer Llama with fingerprint "
            f"{config['fingerprint']}, {called} is a plain Llama",
            remedy=f"Give the base model that they were made for ({config['base_model']}).",
        )
    tensors = load(_checked_bytes(folder, retrofit))
    try:
        model = from_llama(llama, **retrofit["config"])
        for index, layer in model.memory_layers().items():
            state = {name: tensors[f"{index}.{name}"].float() for name in layer.state_dict()}
            layer.load_state_dict(state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise FingerprintMismatch(
            f"the edits in {folder} were made for the model with fingerprint {config['fingerprint']}; "
            f"{called} has another shape: {str(error).splitlines()[0]}",
            remedy=f"Give the base model that they were made for ({config['base_model']}).",
        ) from error
    return model


def _written_routing(model: MemoryLlamaForCausalLM, folder: Path) -> dict[str, Any]:
    """Write the memory layers of a retrofit, and return what is needed to build them again."""
    tensors = {
        f"{index}.{name}": _smallest(tensor)
        for index, layer in model.memory_layers().items()
        for name, tensor in layer.state_dict().items()
    }
    payload = save(tensors)
    (folder / _ROUTING_FILE).write_bytes(payload)
    fields = {
        name: value
        for name, value in model.config.to_dict().items()
        if name.startswith("memory_") and not name.startswith("memory_overlay_")
    }
    return {"file": _ROUTING_FILE, "sha256": hashlib.sha256(payload).hexdigest(), "config": fields}


def _smallest(tensor: Tensor) -> Tensor:
    """A tensor in bf16 where that loses nothing, as in a fitted routing, else as it is."""
    narrow = tensor.detach().cpu().contiguous().bfloat16()
    return narrow if torch.equal(narrow.float(), tensor.detach().cpu().float()) else tensor.detach().cpu()


def _patches(config: dict[str, Any], folder: Path) -> list[Patch]:
    return [
        read_patch(folder / edit["file"], sha256=edit["sha256"], remedy=_AGAIN) for edit in config["edits"]
    ]


def _checked_bytes(folder: Path, described: dict[str, Any]) -> bytes:
    path = folder / described["file"]
    payload = path.read_bytes() if path.is_file() else b""
    found = hashlib.sha256(payload).hexdigest()
    if found != described["sha256"]:
        raise StoreCorrupt(
            f"{path} is missing or was changed: expected SHA-256 {described['sha256']}, found {found}",
            remedy=_AGAIN,
        )
    return payload


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        known = config["format"] == FORMAT and isinstance(config["format_version"], int)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"{path} is no readable description of edits: {error}", remedy=_AGAIN) from error
    if not known:
        raise StoreCorrupt(f"{path} is not of format {FORMAT!r}", remedy=_AGAIN)
    if config["format_version"] > FORMAT_VERSION:
        raise StoreTooNew(
            f"{path} has format version {config['format_version']}, this memedit reads up to "
            f"{FORMAT_VERSION}",
            remedy="Update memedit: pip install --upgrade memedit",
        )
    missing = {"base_model", "fingerprint", "retrofit", "edits"} - config.keys()
    if missing:
        raise StoreCorrupt(f"{path} lacks {', '.join(sorted(missing))}", remedy=_AGAIN)
    _require_inside(path, config)
    return dict(config)


def _require_inside(path: Path, config: dict[str, Any]) -> None:
    """Refuse files outside the folder, and entries without a name or checksum."""
    described = [*config["edits"], *([config["retrofit"]] if config["retrofit"] else [])]
    for each in described:
        good = isinstance(each, dict) and all(isinstance(each.get(key), str) for key in ("file", "sha256"))
        if not good or Path(each["file"]).is_absolute() or ".." in Path(each["file"]).parts:
            raise StoreCorrupt(
                f"{path} describes a file that cannot be one of its folder: {each}", remedy=_AGAIN
            )
