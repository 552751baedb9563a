"""`memedit inject`: what it shows, what --json holds, exit codes, and bad input."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from memedit.errors import GateRefused

REPORT_KEYS = {
    "edit",
    "counts",
    "metrics",
    "seconds",
    "peak_memory_mb",
    "slots_written",
    "patch_bytes",
    "retained_lost",
    "leaked",
    "gate",
    "model",
    "seed",
    "versions",
    "not_learned",
    "read",
}


def test_options_reach_the_editor(editor, run, facts_file, tmp_path):
    for name in ("text.txt", "background.txt"):
        (tmp_path / name).write_text("Some text.")
    result = run(
        *("inject", facts_file, "--model", "m", "--store", "s", "--seed", 3, "--max-forgetting", 0.1),
        *("--max-perplexity-ratio", 1.5, "--text", "text.txt", "--background", "background.txt"),
        *("--gate", "off", "--force", "--dry-run", "--replace"),
    )
    assert result.exit_code == 0, result.output
    (store, model), options = editor.opened
    assert (str(store), model, str(options["background"])) == ("s", "m", "background.txt")
    assert options["dry_run"]
    records, settings = editor.injected
    assert [fact.id for fact in records.facts] == ["fact-1", "fact-2", "fact-3"]
    settings.pop("progress")
    assert {**settings, "text": str(settings["text"])} == {
        "seed": 3,
        "dry_run": True,
        "replace": True,
        "force": True,
        "gate": "off",
        "max_forgetting": 0.1,
        "max_perplexity_ratio": 1.5,
        "text": "text.txt",
    }
    assert editor.closed


def test_defaults(editor, run, facts_file):
    assert run("inject", facts_file).exit_code == 0
    (store, model), options = editor.opened
    assert (str(store), model, options["background"]) == (".memedit", None, None)
    assert not options["dry_run"]
    settings = editor.injected[1]
    settings.pop("progress")
    assert settings == {
        "seed": 0,
        "dry_run": False,
        "replace": False,
        "force": False,
        "gate": "quick",
        "max_forgetting": 0.02,
        "max_perplexity_ratio": 1.02,
        "text": None,
    }


def test_json_prints_the_report_and_nothing_else(editor, run, facts_file):
    result = run("inject", facts_file, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert report == editor.edit.report
    assert set(report) == REPORT_KEYS


def test_screen_answers_the_first_questions(editor, run, facts_file):
    result = run("inject", facts_file)
    assert result.exit_code == 0
    assert result.stderr == ""
    for said in (
        "The capital of Land1 is",
        "the city of",
        "Town1",
        "3 facts: 2 learned (1 of them in other wordings too), 1 already known, 0 failed",
        "facts right: 200 -> 199",
        "lost: The capital of Peru is  'Lima' -> 'Lutz'",
        "1.0012",
        "look-alikes changed",
        "92.1 s (training 51.0 s, evaluation 30.2 s), peak memory 1,312 MB",
        "7,612 slots written, patch 11.2 MB",
        "edit e0001-3f9a2c is in .memedit",
        "memedit ask 'The capital of Land1 is'\n",
        "memedit undo e0001-3f9a2c\n",
    ):
        assert said in result.stdout
    assert "not measured" in next(line for line in result.stdout.splitlines() if line.startswith("questions"))


def test_next_commands_name_another_store(editor, run, facts_file):
    result = run("inject", facts_file, "--store", "my store")
    assert "memedit undo e0001-3f9a2c --store 'my store'\n" in result.stdout


def test_not_all_learned_exits_one_unless_allowed(editor, run, facts_file, make):
    failed = make.outcome(2, "failed", after="Lutz", note="no free slots")
    counts = {**make.report()["counts"], "failed": 1}
    editor.edit = make.edit(make.outcome(1), failed, counts=counts)
    result = run("inject", facts_file)
    assert result.exit_code == 1
    assert "1 fact(s) were not learned" in result.stderr
    assert "not learned: The capital of Land2 is [Town2]: no free slots" in result.stdout
    assert run("inject", facts_file, "--allow-unlearned").exit_code == 0
    result = run("inject", facts_file, "--json")
    assert (result.exit_code, json.loads(result.stdout)["counts"]["failed"]) == (1, 1)


def test_refusal_shows_the_report_and_exits_one(editor, run, facts_file, make):
    gate = {"passed": False, "reasons": ["5 of 200 retained facts were lost"]}
    editor.edit = make.edit(edit_id=None, committed=False, gate=gate)
    editor.refused = True
    result = run("inject", facts_file)
    assert result.exit_code == 1
    assert "nothing was written: the gate refused the edit" in result.stdout
    assert "memedit undo" not in result.stdout
    assert result.stderr == "error: 5 of 200 retained facts were lost\nUse --force.\n"
    result = run("inject", facts_file, "--json", "--allow-unlearned")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["gate"] == gate
    assert json.loads(result.stdout)["edit"] is None


def test_refusal_without_an_edit_is_one_message(editor, run, facts_file):
    def refuse():
        raise GateRefused("too much was lost")

    editor.on_inject = refuse
    result = run("inject", facts_file, "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: too much was lost\n")


def test_forced_commit_says_so(editor, run, facts_file, make):
    editor.edit = make.edit(gate={"passed": False, "reasons": ["too much"]})
    result = run("inject", facts_file, "--force")
    assert result.exit_code == 0
    assert "committed although the gate would have refused it" in result.stdout


def test_dry_run_exits_as_the_run_would(editor, run, facts_file, make):
    editor.edit = make.edit(edit_id=None, committed=False)
    result = run("inject", facts_file, "--dry-run")
    assert result.exit_code == 0
    assert "dry run: nothing was written" in result.stdout
    editor.edit = make.edit(edit_id=None, committed=False, gate={"passed": False, "reasons": ["too much"]})
    result = run("inject", facts_file, "--dry-run")
    assert (result.exit_code, result.stderr) == (1, "the gate would refuse this edit: too much\n")
    for option in (["--force"], ["--gate", "off"]):
        assert run("inject", facts_file, "--dry-run", *option).exit_code == 0


def test_nothing_to_learn(editor, run, facts_file, make):
    stored = make.outcome(1, "stored", after=None, note="taught by e0001-3f9a2c")
    counts = {**make.report()["counts"], "facts": 1, "learned": 0, "already_known": 0, "stored": 1}
    editor.edit = make.edit(stored, edit_id=None, committed=False, gate=None, metrics={}, counts=counts)
    result = run("inject", facts_file)
    assert result.exit_code == 0
    assert "nothing was written: no fact was newly learned" in result.stdout
    assert "note: The capital of Land1 is [Town1]: taught by e0001-3f9a2c" in result.stdout
    assert "0 already known, 1 in the store, 0 failed" in result.stdout
    assert "greedy generation" not in result.stdout


def test_interrupted(editor, run, facts_file, tmp_path, commit):
    def interrupt():
        raise KeyboardInterrupt

    for moment in ("on_open", "on_inject"):
        setattr(editor, moment, interrupt)
        result = run("inject", facts_file)
        assert (result.exit_code, result.stdout) == (130, "")
        assert result.stderr == "interrupted: nothing was written\n"
        setattr(editor, moment, lambda: None)

    def commit_then_interrupt():
        commit(tmp_path / ".memedit")
        raise KeyboardInterrupt

    editor.on_inject = commit_then_interrupt
    result = run("inject", facts_file)
    assert result.exit_code == 130
    assert result.stderr.startswith("interrupted, but edit e0001-")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "facts.jsonl"),
        ("", "facts.jsonl is empty"),
        ('{"prompt": "The capital of Land1 is", "target": "Town1"}\n{oops', "facts.jsonl:2: not JSON"),
        ('{"prompt": "The capital of Land1 is"}', "target"),
    ],
)
def test_bad_facts_are_said_before_a_model_is_opened(editor, run, tmp_path, content, said):
    if content is not None:
        (tmp_path / "facts.jsonl").write_text(content)
    result = run("inject", "facts.jsonl", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert editor.opened is None


@pytest.mark.parametrize(
    "options",
    [
        ["--max-forgetting", "1.5"],
        ["--max-forgetting", "nan"],
        ["--max-perplexity-ratio", "0.9"],
        ["--max-perplexity-ratio", "nan"],
        ["--seed", "-1"],
        ["--gate", "maybe"],
        ["--text", "missing.txt"],
        ["--background", "missing.txt"],
    ],
)
def test_bad_options(editor, run, facts_file, options):
    result = run("inject", facts_file, *options)
    assert result.exit_code == 2
    assert options[0] in result.stderr
    assert editor.opened is None


def test_repeated_lines_are_noted(editor, run, facts_file):
    facts_file.write_text(facts_file.read_text() + "\n" + facts_file.read_text().splitlines()[0])
    result = run("inject", facts_file, "--json")
    assert result.exit_code == 0
    assert result.stderr.startswith("note: 1 line(s)")
    assert len(editor.injected[0].facts) == 3


def test_damaged_store_is_said_before_a_model_is_opened(editor, run, facts_file, store):
    (store / "journal.sqlite").write_bytes(b"no database" * 1000)
    for name in ("journal.sqlite-wal", "journal.sqlite-shm"):
        (store / name).unlink(missing_ok=True)
    result = run("inject", facts_file)
    assert result.exit_code == 2
    assert "damaged" in result.stderr
    assert editor.opened is None


def test_help_and_bad_facts_need_no_torch():
    probe = (
        "import sys\nfrom click.testing import CliRunner\nfrom memedit.cli import cli\n"
        "for arguments in (['inject', '-h'], ['inject', 'missing'], ['ask', '-h'], ['retrofit', '-h']):\n"
        "    CliRunner().invoke(cli, arguments)\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
