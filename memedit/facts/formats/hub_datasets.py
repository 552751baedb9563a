"""Records from the `datasets` library: "hf:name/config:split", or a folder that it saved.

What: `hub_records`.
Why: most benchmarks live on the Hugging Face hub, and a user who has the library should not have to convert
them.
How: the library is imported only here and only on use; where it, or the hub, cannot be had, the message says
how to give a local file instead. The library asks a hub that is out of reach six times, for 23 seconds, and
prints each time; so the hub is asked once before, and where it does not answer only the local cache is read.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.errors import FactsError
from memedit.facts.formats.raw_records import RawRecord

__all__ = ["PATIENCE", "PREFIX", "hub_records"]

PREFIX = "hf:"
_LOCAL = "Or give a local file: download the dataset elsewhere and pass its .json, .jsonl or .csv file."
PATIENCE = 4.0
"""Seconds in which the hub must answer anything at all."""
_SAVED = ("dataset_dict.json", "state.json")


@dataclass(frozen=True)
class _Name:
    """A dataset as the user wrote it."""

    written: str
    path: str
    config: str | None
    split: str | None


def _parsed(source: str) -> _Name:
    path, colon, split = source.removeprefix(PREFIX).rpartition(":")
    path, split = (path, split) if colon else (split, "")
    parts = path.split("/")
    is_folder = Path(path).is_dir()
    is_good = bool(path) and (is_folder or (len(parts) <= 3 and all(parts))) and (not colon or split)
    if not is_good:
        raise FactsError(
            f"{source!r} is no dataset",
            path=source,
            remedy="Write hf:name:split, hf:owner/name:split, hf:owner/name/config:split, or hf:FOLDER:split"
            " for a folder that the datasets library saved.",
        )
    config = parts[2] if len(parts) == 3 and not is_folder else None
    name = path if config is None else "/".join(parts[:2])
    return _Name(source, name, config, split or None)


def _library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise FactsError(
            "reading a dataset from the hub needs the package datasets, which is not installed",
            remedy=f"Install it: pip install 'memedit[datasets]'. {_LOCAL}",
        ) from error


@contextmanager
def _without_bars(datasets: Any) -> Iterator[None]:
    """The library's own progress bars, off for the length of a `with` block."""
    were_off = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            datasets.enable_progress_bars()


@contextmanager
def _plain_hub(datasets: Any, name: _Name) -> Iterator[None]:
    """For the length of a `with` block: no word of requests, and a hub out of reach is asked once."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        if Path(name.path).is_dir() or _is_offline(datasets) or _hub_answers():
            yield
        else:
            with _offline(datasets):
                yield
    finally:
        logger.setLevel(level)


def _is_offline(datasets: Any) -> bool:
    return bool(_hub_constants().HF_HUB_OFFLINE or datasets.config.HF_HUB_OFFLINE)


def _hub_constants() -> Any:
    return importlib.import_module("huggingface_hub.constants")


@contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """What HF_HUB_OFFLINE=1 does, which both libraries read only when they are imported."""
    settings = (_hub_constants(), datasets.config)
    before = [each.HF_HUB_OFFLINE for each in settings]
    try:
        for each in settings:
            each.HF_HUB_OFFLINE = True
        yield
    finally:
        for each, value in zip(settings, before, strict=True):
            each.HF_HUB_OFFLINE = value


def _hub_answers() -> bool:
    """Ask for any answer, with the library's own client, which knows of proxies and certificates."""
    client = importlib.import_module("huggingface_hub.utils").get_session()
    endpoint = _hub_constants().ENDPOINT
    # The client's errors are httpx's; since 2.0 of the library they are httpx2's.
    unreached = tuple(sys.modules[each].HTTPError for each in ("httpx", "httpx2") if each in sys.modules)
    answers: list[object] = []

    def ask() -> None:
        with suppress(OSError, *unreached):
            answers.append(client.head(endpoint, timeout=PATIENCE))

    # A thread, since neither looking up the name nor trying one address after another heeds the time-out.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return bool(answers)


def _loaded(datasets: Any, name: _Name) -> Any:
    """A dataset, or its splits by name."""
    folder = Path(name.path)
    if folder.is_dir() and any((folder / each).is_file() for each in _SAVED):
        return datasets.load_from_disk(name.path)
    try:
        return datasets.load_dataset(name.path, name.config)
    except datasets.exceptions.DatasetNotFoundError:
        # "trivia_qa/rc": one of the datasets without an owner, with a configuration.
        owner, slash, config = name.path.partition("/")
        if not slash or name.config is not None or folder.is_dir():
            raise
        return datasets.load_dataset(owner, config)


def _opened(name: _Name) -> Any:
    datasets = _library()
    try:
        with _without_bars(datasets), _plain_hub(datasets, name):
            return _loaded(datasets, name)
    except ConnectionError as error:
        raise FactsError(
            f"the Hugging Face hub could not be reached for {name.path!r}, and its cache does not hold it",
            path=name.written,
            remedy=f"Check the network (and HF_HUB_OFFLINE). {_LOCAL}",
        ) from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FactsError(
            f"the dataset {name.path!r} could not be opened: {reason}",
            path=name.written,
            remedy=f"Check the name and the configuration (hf:owner/name/config:split). {_LOCAL}",
        ) from error


def _whole(name: _Name) -> str:
    return PREFIX + "/".join(filter(None, (name.path, name.config)))


def _split(opened: Any, name: _Name) -> Any:
    """The rows of the split that was asked for, or of the only one there is."""
    if not isinstance(opened, dict):
        if name.split is None or name.split == str(opened.split):
            return opened
        splits = [str(opened.split)] if opened.split is not None else []
    else:
        splits = [str(each) for each in opened]
        if name.split is None and len(splits) == 1:
            return opened[splits[0]]
        if name.split in splits:
            return opened[name.split]
    given = f"has no split {name.split!r}" if name.split else "has several splits"
    there = ", ".join(splits) or "none by name: leave the split out"
    raise FactsError(
        f"the dataset {name.path!r} {given}",
        path=name.written,
        remedy=f"Its splits: {there}." + (f" Write {_whole(name)}:{splits[0]}." if splits else ""),
    )


def hub_records(source: str) -> Iterator[RawRecord]:
    """The rows of a dataset.

    Args:
        source: "hf:" with a name on the hub and a split, or with a folder that `save_to_disk` wrote.

    Yields:
        Each row, numbered from 1.

    Raises:
        FactsError: When the name is none, the library is not installed, the hub cannot be reached, or it has
            no such dataset, configuration or split.
    """
    name = _parsed(source)
    for number, row in enumerate(_split(_opened(name), name), start=1):
        yield RawRecord(number, None, row, is_numbered=True)
