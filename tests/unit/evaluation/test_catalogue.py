"""The catalogue names every metric once, and no module's metrics are left out."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import memedit.evaluation
from memedit.evaluation import catalogue as room


def test_every_module_that_declares_metrics_is_listed():
    modules = {module.name for module in pkgutil.iter_modules(memedit.evaluation.__path__)}
    declaring = {
        name for name in modules if hasattr(importlib.import_module(f"memedit.evaluation.{name}"), "METRICS")
    }
    assert declaring == set(room.FAMILY_MODULES)


def test_every_entry_says_everything():
    entries = room.all_metrics()
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.name == entry.name.lower().replace(" ", "_")
        assert all((entry.family, entry.formula, entry.source, entry.protocol))
        assert "\n" not in entry.formula + entry.protocol
        assert entry.to_json()["higher_is_better"] in (True, False, None)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="got 'no_such_metric'"):
        room.metric_info("no_such_metric")
