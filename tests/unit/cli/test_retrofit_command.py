"""`memedit retrofit`: what it passes on, what it prints, what it refuses."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from memedit.editing.routing_trials import choose_routing
from memedit.modeling.calibration import RoutingTrial
from memedit.modeling.opening import RETROFIT_FILE


@pytest.fixture
def calls(monkeypatch):
    """Calls of a fake `retrofit_folder`, which writes 1,000 bytes that stand for a retrofit."""
    seen = []

    def retrofit_folder(model, out, *, background, settings, choose, progress):
        assert choose is choose_routing
        seen.append((model, out, background, settings))
        out.mkdir(exist_ok=True)
        (out / RETROFIT_FILE).write_bytes(bytes(1000))
        return out

    def load_retrofit(path):
        assert path.stat().st_size == 1000
        return SimpleNamespace(
            settings=SimpleNamespace(layer=6, num_keys=16, temperature=10.0),
            background=SimpleNamespace(num_documents=250),
            trials=(
                RoutingTrial(5, 20.0, 0.9, 0.25, 200, 100),
                RoutingTrial(6, 10.0, 0.95, 0.1, 200, 100, chosen=True),
            ),
        )

    monkeypatch.setattr("memedit.modeling.opening.retrofit_folder", retrofit_folder)
    monkeypatch.setattr("memedit.modeling.retrofit.load_retrofit", load_retrofit)
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
    tried = [line.strip() for line in result.stdout.splitlines() if "look-alikes" in line]
    gates = "gates opened in {} of 200 unseen contexts, at {} of 100 look-alikes"
    assert tried == [
        "block  5, temperature   20: " + gates.format("90%", "25%"),
        "block  6, temperature   10: " + gates.format("95%", "10%") + " (chosen)",
    ]


def test_slots_are_a_square_number(calls, run):
    assert run("retrofit", "my-llama", "out", "--slots", 1048576).exit_code == 0
    assert calls[0][3].num_keys == 1024
    assert run("retrofit", "my-llama", "same", "--slots", 262144).exit_code == 0
    assert calls[1][3] is None  # the default: what is shipped fits
    refused = run("retrofit", "my-llama", "other", "--slots", 1000000 - 1)
    assert refused.exit_code == 2
    assert "the nearest is 1000000" in refused.output
    assert len(calls) == 2


def test_json(calls, run):
    result = run("retrofit", "my-llama", "out", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    described = json.loads(result.stdout)
    assert described.pop("seconds") >= 0
    trials = described.pop("trials")
    assert [(trial["layer"], trial["opened"], trial["chosen"]) for trial in trials] == [
        (5, 0.9, False),
        (6, 0.95, True),
    ]
    assert described == {
        "model": "my-llama",
        "out": "out",
        "layer": 6,
        "temperature": 10.0,
        "num_slots": 256,
        "background_documents": 250,
        "size_bytes": 1000,
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
