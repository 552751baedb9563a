"""The error tree and the progress that shows nothing."""

from __future__ import annotations

import pytest

from memedit import errors
from memedit.progress import NULL_PROGRESS


def test_remedy_is_a_second_line():
    assert str(errors.MemeditError("wrong")) == "wrong"
    assert str(errors.UsageError("wrong", remedy="mend it")) == "wrong\nmend it"


def test_every_error_is_a_memedit_error_with_an_exit_code():
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.MemeditError)
        assert kind.exit_code == (1 if name == "GateRefused" else 2)


def test_user_errors_are_value_errors():
    assert issubclass(errors.FactsError, errors.UsageError)
    assert issubclass(errors.UsageError, ValueError)
    assert issubclass(errors.StoreLocked, errors.StoreError)


def test_facts_error_keeps_its_place():
    error = errors.FactsError("no target", path="facts.jsonl", line=7, remedy="add one")
    assert (error.path, error.line, error.message) == ("facts.jsonl", 7, "no target")


def test_null_progress_lets_errors_through():
    with NULL_PROGRESS.task("work", 3) as task:
        task.advance()
        task.describe("more")
    with pytest.raises(KeyError), NULL_PROGRESS.task("work", None):
        raise KeyError
