"""`memedit log`, `show`, `undo`, `redo`: from the journal alone, quick, and clear when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from memedit.store import Store

ROOT = Path(__file__).parents[3]
EDIT_KEYS = {
    "edit",
    "number",
    "created",
    "active",
    "seed",
    "num_facts",
    "slots_written",
    "patch_bytes",
    "patch_sha256",
    "kind",
    "merged_into",
    "imported_from",
    "withdraws",
}


def test_log(run, store, commit):
    commit(store, 2)
    assert run("undo", 1).exit_code == 0
    listed = json.loads(run("log", "--json").stdout)
    assert set(listed) == {"store", "edits"}
    assert [edit["active"] for edit in listed["edits"]] == [False, True]
    assert all(set(edit) == EDIT_KEYS for edit in listed["edits"])
    lines = run("log").stdout.splitlines()
    assert lines[0].split() == ["edit", "when", "state", "facts", "learned", "retained", "slots", "patch"]
    first, second = listed["edits"]
    assert first["edit"] in lines[1]
    assert "undone" in lines[1]
    assert second["edit"] in lines[2]
    assert "active" in lines[2]
    assert "99.5%" in lines[2]


def test_log_of_an_empty_store(run, tmp_path):
    Store.open(tmp_path / "empty", fingerprint="model-a").close()
    result = run("log", "--store", "empty")
    assert result.exit_code == 0
    assert "no edits in empty yet" in result.stdout
    assert json.loads(run("log", "--store", "empty", "--json").stdout)["edits"] == []


def test_show(run, store):
    result = run("show", "e0001")
    assert result.exit_code == 0, result.output
    edit = json.loads(run("show", 1, "--json").stdout)
    for said in (
        f"edit {edit['edit']} in .memedit, active",
        "seed 7, model smollm2-135m",
        "The capital of Land1 is",
        "fact-1",
        "unknown",
        "Town1",
        "200 -> 199",
        f"patch: 2 slots, {edit['patch_bytes']:,} bytes, SHA-256 {edit['patch_sha256']}",
    ):
        assert said in result.stdout


def test_show_json(run, store):
    result = run("show", 1, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    edit = json.loads(result.stdout)
    assert set(edit) == EDIT_KEYS | {"facts", "report", "measurements"}
    assert [set(fact) for fact in edit["facts"]] == [{"fact", "outcome", "withdrawn_by"}] * 2
    assert edit["facts"][0]["fact"]["prompt"] == "The capital of Land1 is"
    assert edit["facts"][0]["outcome"]["after"] == "Town1"
    assert edit["report"]["edit"] == edit["edit"]
    assert edit["measurements"] == [{"name": "later", "value": 1}]


def test_show_of_a_report_that_says_little(run, tmp_path, commit):
    commit(tmp_path / ".memedit", report={"recall": 1.0})
    result = run("show", 1)
    assert result.exit_code == 0, result.output
    assert "? facts: not counted" in result.stdout
    assert "patch: 2 slots" in result.stdout


def test_undo_and_redo(run, store, commit):
    commit(store, 2)
    result = run("undo")
    assert result.exit_code == 0
    assert result.stdout.startswith("undone: edit e0002-")
    assert "(2 facts); 1 active edit(s) in .memedit\n  memedit redo e0002-" in result.stdout
    undone = json.loads(run("undo", "e0001", "--json").stdout)
    assert set(undone) == EDIT_KEYS
    assert (undone["number"], undone["active"]) == (1, False)
    redone = json.loads(run("redo", "--json").stdout)
    assert set(redone) == EDIT_KEYS
    assert (redone["number"], redone["active"]) == (1, True)
    result = run("redo", 2)
    assert result.stdout.startswith("redone: edit e0002-")
    assert [edit["active"] for edit in json.loads(run("log", "--json").stdout)["edits"]] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["undo", "e0009"], "there is no edit 'e0009'; known edits: e0001-"),
        (["show", "nonsense"], "there is no edit 'nonsense'"),
        (["undo", "e000"], "fits 2 edits"),
        (["redo"], "has no undone edit to redo"),
        (["redo", "1"], "is active already"),
    ],
)
def test_wrong_edits_change_nothing(run, store, commit, arguments, said):
    commit(store, 2)
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert [edit["active"] for edit in json.loads(run("log", "--json").stdout)["edits"]] == [True, True]


@pytest.mark.parametrize("arguments", [["log"], ["show", "1"], ["undo"], ["redo"]])
def test_missing_store(run, tmp_path, arguments):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: there is no store at .memedit\n`memedit inject FACTS` makes one.\n"
    assert list(tmp_path.iterdir()) == []


def test_locked_store_can_be_read_but_not_changed(run, store, monkeypatch):
    opened = Store.open

    def impatient(*arguments, **options):
        return opened(*arguments, **options, lock_timeout=0.05)

    monkeypatch.setattr(Store, "open", impatient)
    with opened(store, fingerprint=None) as holder, holder.lock():
        result = run("undo")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "is being written by process" in result.stderr
        assert run("log").exit_code == run("show", 1).exit_code == 0
    assert run("undo").exit_code == 0


def test_damaged_patch_can_be_undone_but_not_redone(run, store):
    (patch,) = (store / "patches").glob("*.safetensors")
    patch.write_bytes(patch.read_bytes()[:-1])
    assert run("undo").exit_code == 0
    result = run("redo")
    assert result.exit_code == 2
    assert "was changed after it was committed" in result.stderr


@pytest.mark.parametrize("command", [["log"], ["show", "1"], ["undo"]])
def test_no_model_is_loaded(store, command):
    probe = (
        "import sys\nfrom memedit.cli import cli\n"
        f"cli({[*command, '--store', str(store)]!r}, standalone_mode=False)\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
