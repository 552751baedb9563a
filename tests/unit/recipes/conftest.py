"""Recipes are scripts beside each other, not a package: their folder is put on the path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fixtures_world import modules_out_of_the_garbage, world  # noqa: F401

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.fixture(autouse=True)
def recipes_on_the_path(monkeypatch):
    """As `python recipes/NAME.py` has it."""
    monkeypatch.syspath_prepend(str(RECIPES))
    yield
    own = {path.stem for path in RECIPES.glob("*.py")}
    for name in own & set(sys.modules):
        del sys.modules[name]
