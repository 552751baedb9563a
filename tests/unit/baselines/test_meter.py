"""The meter: time and memory of what runs, not of what is measured in between."""

from __future__ import annotations

import time

import pytest
import torch

from memedit.baselines import meter as meter_module
from memedit.baselines.meter import Meter

_MB = 1 << 20


def used(megabytes):
    block = torch.ones(megabytes * _MB // 4)
    assert block.sum() > 0
    del block


def test_pauses_do_not_count():
    meter = Meter()
    with meter.running():
        time.sleep(0.02)
        with meter.paused():
            time.sleep(0.2)
            used(300)
    assert 0.02 <= meter.seconds < 0.2
    if meter.exact:
        assert meter.peak_bytes - meter.resident_bytes < 200 * _MB


def test_the_peak_is_that_of_the_running_part():
    used(200)
    meter = Meter()
    with meter.running():
        used(100)
    if not meter.exact:
        pytest.skip("this system cannot start the mark of peak memory anew")
    assert 90 * _MB < meter.peak_bytes - meter.resident_bytes < 150 * _MB


def test_a_mark_that_cannot_be_started_anew_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(meter_module, "_CLEAR", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(meter_module, "_STATUS", tmp_path / "none" / "status")
    meter = Meter()
    with meter.running():
        pass
    assert not meter.exact
    assert meter.peak_bytes > 10 * _MB
