"""`memedit retrofit`: what it passes on, what it prints, what it refuses."""

from __future__ import annotations

import json

import pytest
import torch

from memedit.modeling.background import BackgroundStatistics
from memedit.modeling.calibration import Routing, RoutingSettings
from memedit.modeling.opening import RETROFIT_FILE
from memedit.modeling.retrofit import Retrofit, save_retrofit


@pytest.fixture
def calls(monkeypatch):
    """Calls of a fake `retrofit_folder`, which writes a small but real retrofit."""
    seen = []

    def retrofit_folder(model, out, *, background, settings, progress):
        seen.append((model, out, background, settings))
        settings = RoutingSettings(layer=6, num_keys=16, key_dim=8, head_windows=(1, 2))
        routing = Routing(torch.zeros(16, 24), torch.zeros(16), torch.zeros(2, 2, 16, 4))
        background = BackgroundStatistics(torch.zeros(256, dtype=torch.int32), 250)
        out.mkdir(exist_ok=True)
        save_retrofit(out / RETROFIT_FILE, Retrofit(routing, background, settings, 0))
        return out

    monkeypatch.setattr("memedit.modeling.opening.retrofit_folder", retrofit_folder)
    return seen


def test_options_and_text(calls, run, tmp_path):
    (tmp_path / "background.txt").write_text("Some text.")
    result = run("retrofit", "my-llama", "out", "--background", "background.txt", "--layer", 3, "--seed", 5)
    assert result.exit_code == 0, result.output
    ((model, out, background, settings),) = calls
    assert (model, str(out), str(background)) == ("my-llama", "out", "background.txt")
    assert (settings.layer, settings.seed) == (3, 5)
    assert "256 slots at block 6 is in out" in result.stdout
    assert "memedit inject facts.jsonl --model out" in result.stdout


def test_json(calls, run, tmp_path):
    result = run("retrofit", "my-llama", "out", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    described = json.loads(result.stdout)
    assert described.pop("seconds") >= 0
    assert described == {
        "model": "my-llama",
        "out": "out",
        "layer": 6,
        "num_slots": 256,
        "background_documents": 250,
        "size_bytes": (tmp_path / "out" / RETROFIT_FILE).stat().st_size,
    }
    assert calls[0][2] is None
    # None, so that a retrofit that is shipped is used.
    assert calls[0][3] is None


def test_folder_in_use_is_refused(calls, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("do not overwrite")
    (tmp_path / "file").write_text("")
    for out in ("out", "file"):
        result = run("retrofit", "my-llama", out)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"OUT must be a new or empty folder, {out} is not" in result.stderr
    assert run("retrofit", "my-llama", "new", "--background", "missing").exit_code == 2
    assert calls == []
