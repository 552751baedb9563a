"""A tiny memory-layer Llama with an owner for every subject, and a small Llama that can be taught."""

from __future__ import annotations

import gc
import importlib.util
import sys
from pathlib import Path

import pytest

_NAME = "small_world"

if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        _NAME, Path(__file__).parents[1] / "editor" / f"{_NAME}.py"
    )
    _module = importlib.util.module_from_spec(_spec)
    sys.modules[_NAME] = _module
    _spec.loader.exec_module(_module)

import small_world  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def modules_out_of_the_garbage():
    """Every edit collects garbage several times, which takes 0.2 s when it looks through all of torch."""
    importlib.import_module("memedit.editor")
    importlib.import_module("transformers.models.llama.modeling_llama")
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def world():
    """The names of small_world."""
    return small_world


@pytest.fixture
def make_fact():
    """Facts as a user would write them: make_fact("Lake Tor", "Bern") or with fields of a facts file."""
    from memedit.facts import facts_from_records

    def made(subject, target, **fields):
        return facts_from_records(
            [{"prompt": f"The capital of {subject} is", "target": target, "subject": subject, **fields}]
        )[0]

    return made
