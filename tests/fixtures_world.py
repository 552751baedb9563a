"""Fixtures of tests that teach the small world: small_world itself, and less work for the collector."""

from __future__ import annotations

import gc
import importlib

import pytest
import small_world


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
