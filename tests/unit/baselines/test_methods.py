"""Names and settings are checked before any model is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from memedit.baselines import methods
from memedit.baselines.methods import METHODS, checked_settings, chosen_methods, require_installed
from memedit.errors import UsageError


def test_all_names_every_method():
    assert chosen_methods("all") == list(METHODS)


def test_names_are_taken_in_their_order_and_once():
    assert chosen_methods(" lora, memory,lora ") == ["lora", "memory"]


@pytest.mark.parametrize(("name", "closest"), [("lorra", "lora"), ("memory-tfid", "memory-tfidf")])
def test_an_unknown_method_is_answered_with_the_closest(name, closest):
    with pytest.raises(UsageError, match=f"did you mean '{closest}'"):
        chosen_methods(f"memory,{name}")


def test_no_method_is_an_error():
    with pytest.raises(UsageError, match="got none"):
        chosen_methods(" , ")


def test_a_missing_extra_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(
        methods.importlib.util, "find_spec", lambda name: None if name == "peft" else object()
    )
    with pytest.raises(UsageError, match=r"pip install 'memedit\[baselines\]'"):
        require_installed(METHODS["lora"].requires, "method lora")
    require_installed(METHODS["rag"].requires, "method rag")


@pytest.mark.parametrize("name", METHODS)
def test_candidates_are_distinct_and_begin_with_the_defaults(name):
    candidates = METHODS[name].candidates()
    assert candidates[0] == dict(METHODS[name].defaults)
    assert len({tuple(sorted(one.items())) for one in candidates}) == len(candidates) > 3
    for one in candidates:
        assert checked_settings(name, one, "grid") == one


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"learning_rate": "fast"}, "expected a number"),
        ({"learning_rate": -1}, "expected a number of at least 0"),
        ({"learning_rate": True}, "expected a number"),
    ],
)
def test_wrong_settings_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        checked_settings("full", settings, "tuned.json")


def test_checking_names_needs_no_torch():
    probe = "import sys; import memedit.baselines.methods, memedit.cli.compare; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
