"""The meter: time and memory of what runs, not of what is measured in between."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from memedit.baselines import meter as meter_module
from memedit.baselines.meter import Meter

_MB = 1 << 20


def used(megabytes):
    block = torch.ones(megabytes * _MB // 4)
    assert block.sum() > 0
    del block


def test_pauses_do_not_count(monkeypatch):
    clock = SimpleNamespace(now=0.0, cpu=0.0)
    timers = SimpleNamespace(perf_counter=lambda: clock.now, process_time=lambda: clock.cpu)
    monkeypatch.setattr(meter_module, "time", timers)
    meter = Meter()
    with meter.running():
        clock.now, clock.cpu = 2.0, 0.5
        with meter.paused():
            clock.now, clock.cpu = 100.0, 50.0
            used(300)
        clock.now, clock.cpu = 101.0, 50.25
    assert (meter.seconds, meter.cpu_seconds) == (3.0, 0.75)
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
