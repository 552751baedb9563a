"""The small world, and a comparison on it that runs in this process."""

from __future__ import annotations

import pytest
import small_world
from fixtures_world import modules_out_of_the_garbage, world  # noqa: F401

SETTINGS = {
    "full": {"learning_rate": 1e-3, "epochs": 12, "batch_rows": 8},
    "lora": {"learning_rate": 1e-2, "epochs": 12, "rank": 8, "batch_rows": 8},
    "locft": {"learning_rate": 1e-2, "epochs": 16, "depth": 0.5, "batch_rows": 8},
    "rag": {"num_statements": 1, "min_share": 0.2},
}
"""Settings that teach so small a model."""


@pytest.fixture(autouse=True)
def few_well_known_facts(monkeypatch):
    """The retention suite is what the small model was trained on."""
    monkeypatch.setattr("memedit.baselines.measuring.well_known_facts", small_world.known_facts)


@pytest.fixture
def settings():
    """Settings of every method, for the small model."""
    from memedit.baselines.methods import METHODS, checked_settings

    return {name: checked_settings(name, SETTINGS.get(name, {}), "test") for name in METHODS}


@pytest.fixture
def plan():
    """The new lands: two subjects to tune on, the others reported."""
    from memedit.baselines.folder import Plan

    facts = small_world.new_facts()
    text = "A short walk by the river.\n\nThe bridge was closed for the winter."
    return Plan("small-world", None, text, tuple(facts[:5]), tuple(facts[5:]), 10, 3)


@pytest.fixture
def work(tmp_path, plan, settings):
    """The parts of a comparison, on one model."""
    from memedit.baselines.folder import Folder
    from memedit.baselines.work import Work

    folder = Folder(tmp_path / "comparison")
    folder.write_plan(plan)
    folder.write_settings(settings)
    return Work(small_world.opened_world(), folder, small_world.world_settings())
