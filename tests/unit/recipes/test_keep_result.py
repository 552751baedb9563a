"""What is kept of a result: numbers and settings, no items, no machine."""

from __future__ import annotations

import importlib
import json

import pytest

RESULT = {
    "made_with": {"command": "python recipes/lifelong.py /home/ada/facts-test/facts.jsonl --out /tmp/x.json"},
    "metrics": {"recall": {"value": 0.975, "n": 1000, "low": 0.9, "high": 1.0}},
    "items": [1, 2],
    "batches": [{"learned": [str(number) for number in range(100)], "few": [1, 2]}],
    "base": {"answers": ["a"]},
    "note": "after / before, 1/2, https://example.org/a/b",
}


@pytest.fixture
def recipe():
    return importlib.import_module("keep_result")


def test_numbers_stay_and_items_and_machine_go(recipe):
    assert recipe.kept(RESULT) == {
        "made_with": {"command": "python recipes/lifelong.py facts-test/facts.jsonl --out tmp/x.json"},
        "metrics": RESULT["metrics"],
        "batches": [{"learned": {"left_out": 100}, "few": [1, 2]}],
        "note": RESULT["note"],
    }


def test_the_command_writes_the_same_bytes_again(recipe, tmp_path):
    (tmp_path / "in.json").write_text(json.dumps(RESULT))
    for name in ("one.json", "two.json"):
        assert recipe.main([str(tmp_path / "in.json"), str(tmp_path / "deep" / name)]) == 0
    one, two = ((tmp_path / "deep" / name).read_text() for name in ("one.json", "two.json"))
    assert one == two
    assert json.loads(one) == recipe.kept(RESULT)
