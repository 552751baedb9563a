"""The harness's tasks on base and edited: two runs of one live model, which keeps its edits."""

from __future__ import annotations

import json

import pytest

from memedit.editor import harness
from memedit.editor.harness import harness_on_base_and_edited


@pytest.fixture
def model(tiny_memory_llama, tiny_overlay):
    made = tiny_memory_llama(memory_empty_base=True)
    made.set_overlay(0, tiny_overlay(made))
    return made


@pytest.fixture
def asked(monkeypatch):
    """What the harness was run on; without rows every question is right, with rows the first is wrong."""
    calls = []

    def run(model, tokenizer, tasks, *, limit, seed, progress):
        calls.append((model.overlay() is not None, tuple(tasks), limit, seed))
        numbers = [0.0 if calls[-1][0] else 1.0, 1.0, 1.0, 1.0]
        samples = [{"item": str(place), "acc": number} for place, number in enumerate(numbers)]
        value = sum(numbers) / 4
        metrics = {"acc": {"value": value, "stderr": None, "higher_is_better": True}}
        tasks_json = {"t": {"version": 1, "n": 4, "metrics": metrics, "samples": samples}}
        return {"lm_eval": "0", "protocol": "how", "limit": limit, "seed": seed, "tasks": tasks_json}

    monkeypatch.setattr(harness, "harness_tasks", run)
    return calls


def test_base_first_then_edited_and_the_edits_are_worn_again(model, tiny_tokenizer, asked):
    worn = model.overlay()
    runs = harness_on_base_and_edited(model, tiny_tokenizer, ["t"], limit=4, seed=7)
    assert asked == [(False, ("t",), 4, 7), (True, ("t",), 4, 7)]
    assert model.overlay().values is worn.values
    (found,) = runs.differences
    assert (found.before, found.after, found.difference.value) == (1.0, 0.75, -0.25)
    plain = json.loads(json.dumps(runs.to_json(), allow_nan=False))
    assert plain["edited"]["tasks"]["t"]["metrics"]["acc"]["value"] == 0.75
    assert "samples" not in plain["base"]["tasks"]["t"]
    assert plain["differences"][0]["difference"]["n"] == 4


def test_the_edits_are_worn_again_after_an_error(model, tiny_tokenizer, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no data")

    worn = model.overlay()
    monkeypatch.setattr(harness, "harness_tasks", broken)
    with pytest.raises(RuntimeError, match="no data"):
        harness_on_base_and_edited(model, tiny_tokenizer, ["t"])
    assert model.overlay().values is worn.values
