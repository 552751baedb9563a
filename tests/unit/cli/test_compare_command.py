"""`memedit compare` as a user starts it: parts in processes of their own, kept, shown and drawn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import small_world
from click.testing import CliRunner
from saved_world import save_world, write_facts

from memedit.cli import cli
from memedit.cli import compare as command
from memedit.cli.compare_job import main as do_part

SETTINGS = {
    "locft": {"learning_rate": 1e-2, "epochs": 8, "depth": 0.5, "batch_rows": 8},
    "rag": {"num_statements": 1, "min_share": 0.2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_world(tmp_path_factory.mktemp("model") / "world")


@pytest.fixture
def files(tmp_path, model):
    """Facts, settings and text of the small world, as options."""
    facts = write_facts(tmp_path / "facts.jsonl", small_world.new_facts()[:3])
    settings, text = tmp_path / "tuned.json", tmp_path / "text.txt"
    settings.write_text(json.dumps(SETTINGS), encoding="utf-8")
    text.write_text("A short walk by the river.\n\nThe bridge was closed.", encoding="utf-8")
    given = {"--model": model, "--settings": settings, "--text": text, "--out": tmp_path / "out"}
    return [str(facts), *(str(word) for pair in given.items() for word in pair)]


@pytest.fixture
def here(monkeypatch):
    """Parts are done in this process, which spares seconds each; keeps their words."""

    def started(out, words):
        started.words.append(" ".join(words))
        return do_part([str(out), *words]) == 0

    started.words = []
    monkeypatch.setattr(command, "_started", started)
    return started


def run(*words, code=0):
    result = CliRunner().invoke(cli, ["compare", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def test_a_comparison_runs_in_processes_and_is_kept(files, tmp_path):
    options = ["--methods", "locft", "--seeds", 1]
    found = json.loads(run(*files, *options, "--json").stdout)
    assert found["methods"]["locft"]["metrics"]["trained_wording"]["value"] >= 0.6
    # The smallest process with torch and a model takes more.
    assert found["methods"]["locft"]["costs"]["peak_memory_mb"]["value"] > 100
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == found


def test_what_is_done_is_shown_again_and_asked_options_are_written(files, tmp_path, here):
    options = ["--methods", "locft,rag", "--seeds", 1]
    saved, plot = tmp_path / "again.json", tmp_path / "pareto.png"
    run(*files, *options)
    assert here.words == ["before reported", "run locft 0", "run rag 0"]
    again = run(*files, *options, "--save-settings", saved, "--plot", plot)
    assert len(here.words) == 3
    assert "run locft 0: done before" in again.stderr
    assert "learned and kept" in again.stdout
    assert json.loads(saved.read_text()) == SETTINGS
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_part_that_fails_is_named_and_exits_1(files, here, monkeypatch):
    def broken(out, words):
        return words[:2] != ["run", "locft"] and here(out, words)

    monkeypatch.setattr(command, "_started", broken)
    result = run(*files, "--methods", "locft,rag", "--seeds", 1, code=1)
    assert "failed: run locft 0" in result.stderr


def test_ctrl_c_keeps_what_is_done(files, here, monkeypatch):
    def interrupted(out, words):
        if words == ["run", "rag", "1"]:
            raise KeyboardInterrupt
        return here(out, words)

    monkeypatch.setattr(command, "_started", interrupted)
    result = run(*files, "--methods", "rag", "--seeds", 2, code=130)
    assert "1 run(s) are kept" in result.stderr
    assert "goes on from there" in result.stderr


# A shell's background jobs ignore Ctrl-C, and so would a command that tests in the background start.
_HEEDING_CTRL_C = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("memedit", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a process group")
def test_ctrl_c_on_the_terminal_ends_the_part_and_the_command(files):
    command_line = [sys.executable, "-c", _HEEDING_CTRL_C, "compare", *files, "--methods", "locft"]
    process = subprocess.Popen(
        command_line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert process.stderr is not None
    assert "before reported: started" in process.stderr.readline()
    time.sleep(1.0)
    # As a terminal does: to the command and to the part that it started.
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted: 0 run(s) are kept" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--methods", "lorra"], "did you mean 'lora'"),
        (["--dev", "FACTS"], "--dev is for --tune"),
        (["--plot", "pareto.jpg"], "ends in .png"),
        (["--plot", "nowhere/pareto.png"], "there is no folder"),
        (["--tune", "--dev", "FACTS"], "about a reported subject"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_loaded(files, options, said, monkeypatch):
    monkeypatch.setattr(command, "_started", lambda out, words: pytest.fail("a part was started"))
    result = run(*files, *(files[0] if word == "FACTS" else word for word in options), code=2)
    assert said in result.stderr


def test_a_missing_extra_is_said_first(files, monkeypatch):
    from memedit.baselines import methods

    monkeypatch.setattr(methods.importlib.util, "find_spec", lambda name: None)
    result = run(*files, "--methods", "lora", code=2)
    assert "pip install 'memedit[baselines]'" in result.stderr


def test_a_part_says_its_error_and_exits_with_its_code(tmp_path, capsys, files, here):
    out = tmp_path / "out"
    run(*files, "--methods", "rag", "--seeds", 1)
    plan = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps({**plan, "model": "no-such-model"}))
    capsys.readouterr()
    assert do_part([str(out), "before", "reported"]) == 2
    assert "error: " in capsys.readouterr().err
