"""Opening a model for editing: what `--model` names becomes a memory-layer Llama with background statistics.

A memory-layer Llama is loaded as it is. A plain Llama is retrofitted: with the retrofit shipped for a named
model, with one calibrated earlier (cached by weights, settings and background), or with one calibrated now,
on background text that the user gives or that the model writes itself.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from memedit_kernels.backend import KernelsUnavailable, require
from safetensors import SafetensorError
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.utils import logging

from memedit.errors import ModelUnavailable, UsageError
from memedit.modeling.arithmetic import computing
from memedit.modeling.background import (
    BackgroundStatistics,
    count_documents,
    load_background,
    read_background,
    self_written_text,
)
from memedit.modeling.calibration import RoutingChooser, RoutingSettings
from memedit.modeling.encoding import bos_ids
from memedit.modeling.fingerprint import weights_digest
from memedit.modeling.loading import load_memory_llama
from memedit.modeling.model import MemoryLlamaForCausalLM
from memedit.modeling.named_models import NAMED_MODELS, cache_root, lasting_name, resolve_model
from memedit.modeling.retrofit import (
    NUM_DOCUMENTS,
    Retrofit,
    apply_retrofit,
    background_documents,
    fit_retrofit,
    load_retrofit,
    save_retrofit,
)
from memedit.progress import NULL_PROGRESS, Progress

RETROFIT_FILE = "retrofit.safetensors"
BACKGROUND_FILE = "background.safetensors"


@dataclass(frozen=True)
class OpenedModel:
    """A model that is ready to be edited.

    Attributes:
        name: what the user named; a local folder as an absolute path.
        model: the memory-layer Llama, frozen, in evaluation mode.
        tokenizer: its tokenizer.
        background: slot document frequencies; counts of zero when the model came without any.
    """

    name: str
    model: MemoryLlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase
    background: BackgroundStatistics


def open_model(
    name: str,
    *,
    background: str | os.PathLike[str] | None = None,
    choose: RoutingChooser | None = None,
    progress: Progress = NULL_PROGRESS,
) -> OpenedModel:
    """Load a model and give it memory layers where it has none.

    Args:
        name: a named model, a local folder or a hub id.
        background: background text. A plain Llama is calibrated on it; None = a shipped or cached retrofit,
            or self-written text. Of a memory-layer Llama the look-ups are counted; None = as they were when
            the model was made, if they were.
        choose: chooses where a plain Llama is calibrated, see fit_retrofit.
        progress: told of what takes time.

    Raises:
        ModelUnavailable: when the model cannot be had or is no Llama.
        UsageError: when the name or the background file is wrong, or MEMEDIT_KERNELS asks for kernels that
            cannot run here.
    """
    _check_kernels()
    folder = resolve_model(name, progress)
    lasting = lasting_name(name)
    quietly_loaded()
    with progress.task("Loading the model", None):
        has_memory, tokenizer = _has_memory(folder), _tokenizer(folder)
        if has_memory:
            model, statistics = _memory_llama(folder)
        else:
            llama = _plain_llama(folder)
    if has_memory:
        if background is not None and model.config.memory_layers:
            texts, bos = read_background(Path(background)), bos_ids(tokenizer, model.config)
            statistics = count_documents(model, background_documents(tokenizer, bos, texts), progress)
        return _frozen(OpenedModel(lasting, model, tokenizer, statistics))
    retrofit = _retrofit_of(name, llama, tokenizer, background, progress, choose=choose)
    return _frozen(OpenedModel(lasting, apply_retrofit(llama, retrofit), tokenizer, retrofit.background))


def load_base(
    name: str | os.PathLike[str], progress: Progress = NULL_PROGRESS
) -> LlamaForCausalLM | MemoryLlamaForCausalLM:
    """Load a Llama as it lies there, plain or with memory layers: nothing is calibrated.

    Args:
        name: a named model, a local folder or a hub id.
        progress: told of what takes time.

    Raises:
        ModelUnavailable: when the model cannot be had or is no Llama.
        UsageError: when the name is wrong.
    """
    folder = resolve_model(name, progress)
    quietly_loaded()
    with progress.task("Loading the model", None):
        return _memory_llama(folder)[0] if _has_memory(folder) else _plain_llama(folder)


def _check_kernels() -> None:
    """Refuse a choice of kernels that cannot run before minutes are spent on a model."""
    try:
        require("cpu")
    except (KernelsUnavailable, ValueError) as error:
        raise UsageError(str(error)) from error


def retrofit_folder(
    name: str,
    out: str | os.PathLike[str],
    *,
    background: str | os.PathLike[str] | None = None,
    settings: RoutingSettings | None = None,
    choose: RoutingChooser | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Path:
    """Retrofit a plain Llama and write it as a Hugging Face folder.

    Args:
        name: a named model, a local folder or a hub id.
        out: the folder to write; it must not hold a model yet.
        background: background text; None = text that the model writes itself, or what was shipped with it.
        settings: routing settings; None = the defaults.
        choose: chooses where the settings name no layer, see fit_retrofit.
        progress: told of what takes time.

    Returns:
        The folder.

    Raises:
        UsageError: when out holds a model already, or the model has memory layers already.
    """
    target = Path(out)
    if (target / "config.json").exists():
        raise UsageError(f"{target} holds a model already", remedy="Name another folder, or remove it.")
    folder = resolve_model(name, progress)
    quietly_loaded()
    if _has_memory(folder):
        raise UsageError(f"{name} has memory layers already", remedy="Use it as --model as it is.")
    llama, tokenizer = _plain_llama(folder), _tokenizer(folder)
    retrofit = _retrofit_of(name, llama, tokenizer, background, progress, settings, choose)
    apply_retrofit(llama, retrofit).save_pretrained(target)
    tokenizer.save_pretrained(target)
    save_retrofit(target / RETROFIT_FILE, retrofit)
    return target


def quietly_loaded() -> None:
    """Silence transformers' loading bars and notes; memedit shows its own progress."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _frozen(opened: OpenedModel) -> OpenedModel:
    opened.model.requires_grad_(False)  # noqa: FBT003 (torch's own signature)
    opened.model.eval()  # type: ignore[no-untyped-call]
    return opened


@contextmanager
def _readable(folder: Path, what: str) -> Iterator[None]:
    """Turn what the libraries say of damaged files into one clear message."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelUnavailable(
            f"{folder} holds no usable {what}: {said[0]}",
            remedy="Write the folder anew with save_pretrained(), or fetch it again.",
        ) from error


def _has_memory(folder: Path) -> bool:
    """Whether the folder holds a memory-layer Llama; anything but a Llama is refused."""
    with _readable(folder, "config.json"):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type not in ("llama", "memory_llama"):
        raise ModelUnavailable(
            f"{folder}: its config.json names a model of type {model_type!r}; memedit edits Llama models",
            remedy="Choose a LlamaForCausalLM, for instance smollm2-135m.",
        )
    return bool(model_type == "memory_llama")


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    with _readable(folder, "tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer


def _memory_llama(folder: Path) -> tuple[MemoryLlamaForCausalLM, BackgroundStatistics]:
    with _readable(folder, "weights"):
        model = computing(load_memory_llama(folder))
    if (folder / RETROFIT_FILE).is_file():
        return model, load_retrofit(folder / RETROFIT_FILE).background
    if (folder / BACKGROUND_FILE).is_file():
        return model, load_background(folder / BACKGROUND_FILE)
    return model, BackgroundStatistics.empty(model.config.num_slots)


def _plain_llama(folder: Path) -> LlamaForCausalLM:
    with _readable(folder, "weights"):
        loaded: Any = LlamaForCausalLM.from_pretrained(
            folder, dtype="auto", local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    llama, found = loaded
    if found["missing_keys"]:
        # transformers fills them with random numbers.
        missing = ", ".join(sorted(found["missing_keys"])[:5])
        raise ModelUnavailable(
            f"{folder} lacks weights: {missing}", remedy="Write the folder anew, or fetch it again."
        )
    assert isinstance(llama, LlamaForCausalLM)
    llama.eval()
    return computing(llama)


def _retrofit_of(
    name: str,
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    background: str | os.PathLike[str] | None,
    progress: Progress,
    settings: RoutingSettings | None = None,
    choose: RoutingChooser | None = None,
) -> Retrofit:
    """Find or calibrate the retrofit of a plain Llama."""
    shipped = resources.files("memedit.modeling").joinpath(f"data/{name}.safetensors")
    if background is None and settings is None and name in NAMED_MODELS and shipped.is_file():
        with resources.as_file(shipped) as path:
            return load_retrofit(path)
    settings = settings or RoutingSettings()
    texts = None if background is None else read_background(Path(background))
    chosen = ["chosen by trial"] if settings.layer is None and choose is not None else []
    digest = None if texts is None else hashlib.sha256("".join(texts).encode()).hexdigest()
    about = json.dumps([asdict(settings), digest, *chosen])
    cached = cache_root() / "retrofits" / f"{weights_digest(llama, about)[:32]}.safetensors"
    if cached.is_file():
        return load_retrofit(cached)
    bos = getattr(llama.config, "memedit_bos_token_id", None)
    if texts is None:
        texts = self_written_text(
            llama,
            tokenizer,
            num_documents=NUM_DOCUMENTS // 4,
            bos=None if bos is None else [bos],
            progress=progress,
        )
    retrofit = fit_retrofit(
        llama, tokenizer, texts, settings, bos_token_id=bos, choose=choose, progress=progress
    )
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_name(f".{cached.name}.{os.getpid()}.tmp")
    try:
        save_retrofit(partial, retrofit)
        partial.replace(cached)
    finally:
        partial.unlink(missing_ok=True)
    return retrofit
