"""The `memedit` group: quick, lazy, and one clear message with its exit code for every error."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from memedit import cli as command_group
from memedit.cli import cli
from memedit.errors import GateRefused, UsageError

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "transformers", "numpy", "sqlite3")
COMMANDS = ["inject", "ask", "log", "show", "undo", "redo", "models", "retrofit", "convert", "doctor"]


def test_help_names_all_commands():
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in result.output] == []
    assert "Examples:" in result.output


@pytest.mark.parametrize(
    "statement", ["import memedit, memedit.errors, memedit.progress", "import memedit.cli"]
)
def test_import_stays_light(statement):
    probe = f"import sys; {statement}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_from_the_door_takes_less_than_half_a_second():
    took = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, ROOT / "cli.py", "--help"], capture_output=True, text=True, check=True
        )
        took.append(time.perf_counter() - started)
        assert "Teach a pretrained Llama" in done.stdout
    # The best of three: a busy machine slows single runs.
    assert min(took) < 0.5


def test_unknown_command_is_answered_with_the_nearest():
    result = CliRunner().invoke(cli, ["injct"])
    assert result.exit_code == 2
    assert "Did you mean 'inject'?" in result.output


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("no such file", remedy="name another"), 2, "error: no such file\nname another\n"),
        (GateRefused("too much was lost"), 1, "error: too much was lost\n"),
        (KeyboardInterrupt(), 130, "interrupted: nothing half-done was left behind\n"),
    ],
)
def test_errors_become_one_message_and_a_code(monkeypatch, error, code, said):
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(command_group._LazyGroup, "get_command", lambda *_: failing)
    result = CliRunner().invoke(cli, ["inject"])
    assert (result.exit_code, result.stderr, result.stdout) == (code, said, "")


def test_version():
    import memedit

    assert memedit.__version__ in CliRunner().invoke(cli, ["--version"]).output


def test_unknown_attribute_of_the_package():
    import memedit

    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = memedit.opne
    assert {"open", "Editor", "__version__"} <= set(dir(memedit))
