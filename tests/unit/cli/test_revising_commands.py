"""`memedit forget`, `compact`, `inject --replace`: screen, --json, exit codes, and what `log` tells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import saved_world
import small_world

from memedit.editor.results import CompactionRefused, ForgettingRefused
from memedit.store import NewEdit, Patch, Store, TablePatch, Withdrawal

ROOT = Path(__file__).parents[3]
FORGET_KEYS = {
    *("edit", "forgotten", "taught_again", "counts", "metrics", "others_changed", "retained_lost", "gate"),
    *("gate_mode", "reasons", "seconds", "peak_memory_mb", "slots_written", "patch_bytes", "model", "seed"),
    "versions",
}
COMPACT_KEYS = {
    *("edit", "merged", "retrained", "counts", "rows", "bytes_in_use", "bytes_on_disk", "seconds", "model"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of the small world."""
    return saved_world.save_world(tmp_path_factory.mktemp("world") / "model")


@pytest.fixture
def taught(run, model, tmp_path, monkeypatch):
    """Three facts of the small world, taught by the command; and options that fit it."""
    for module in ("measuring", "testing", "families", "transaction"):
        monkeypatch.setattr(f"memedit.editor.{module}.well_known_facts", small_world.known_facts)
    monkeypatch.setattr("memedit.editor.session.EditingSettings", small_world.world_settings)
    monkeypatch.setattr("memedit.editor.revising.EditingSettings", small_world.world_settings)
    (tmp_path / "text.txt").write_text("A short walk by the river.\n\nThe bridge was closed.")
    facts = small_world.new_facts()[:3]
    options = ("--model", model, "--text", "text.txt", "--gate", "off")
    path = saved_world.write_facts(tmp_path / "world.jsonl", facts)
    result = run("inject", path, *options)
    assert result.exit_code == 0, result.output
    return facts, options


def test_forget_compact_and_undo_with_the_real_editor(run, taught, tmp_path):
    facts, options = taught
    result = run("forget", facts[0].id[:7], *options, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert set(report) == FORGET_KEYS
    assert [item["id"] for item in report["forgotten"]] == [facts[0].id]
    assert report["metrics"]["as_base_trained_wording"]["value"] == 1.0
    log = run("log").stdout.splitlines()
    assert "2 of 3" in log[1]
    assert "active forget" in log[2]
    shown = run("show", 1).stdout
    assert facts[0].id in shown
    assert f"taken out by {report['edit']}" in shown
    shown = run("show", 2).stdout
    for said in (facts[0].prompt, "as the base model, own prompt: 100.0%", "still answered", "base model"):
        assert said in shown, said
    assert run("forget", facts[0].id, *options).exit_code == 2
    new = small_world.CITIES[small_world.CITIES.index(facts[1].target) - 1]
    correction = saved_world.write_facts(
        tmp_path / "correction.jsonl", [small_world.land_fact(facts[1].subject, new)]
    )
    refused = run("inject", correction, *options)
    assert (refused.exit_code, "--replace" in refused.stderr) == (2, True)
    result = run("inject", correction, *options, "--replace")
    assert result.exit_code == 0, result.output
    assert f"'{facts[1].target}' -> '{new}'" in result.stdout
    assert "answers with the new target: own prompt 100.0%" in result.stdout
    assert "corrected: " in run("show", 3).stdout
    merged = json.loads(run("compact", "--json").stdout)
    assert set(merged) == COMPACT_KEYS
    assert len(merged["merged"]) == 3
    log = run("log").stdout.splitlines()
    assert all(f"in {merged['edit']}" in line for line in log[1:4])
    assert "active compact" in log[4]
    shown = run("show", merged["edit"]).stdout
    for said in ("3 edits with 2 facts", "rows: ", "no bit of the sum changed", "patch: "):
        assert said in shown, said
    refused = run("undo", 1)
    assert (refused.exit_code, "holds all of it" in refused.stderr) == (2, True)
    for _ in range(4):
        assert run("undo").exit_code == 0
    assert [edit["active"] for edit in json.loads(run("log", "--json").stdout)["edits"]] == [False] * 4


def test_what_is_refused_is_shown_and_exits_1(run, taught, monkeypatch):
    facts, options = taught
    refusal = lambda forgetting: ["the fact is still answered"]  # noqa: E731
    monkeypatch.setattr("memedit.editor.forgetting.Forgetting.reasons", refusal)
    result = run("forget", facts[0].id, *options)
    assert result.exit_code == 1
    assert "nothing was written: it was refused" in result.stdout
    assert result.stderr.startswith("error: forgetting was refused: the fact is still answered")
    result = run("forget", facts[0].id, *options, "--force")
    assert result.exit_code == 0
    assert "committed although it would have been refused" in result.stdout


def test_retrained_edits_are_compared_or_refused(run, taught, monkeypatch, tmp_path):
    facts, options = taught
    assert run("forget", facts[0].id, *options).exit_code == 0
    quick = (*options[:-1], "quick", "--retrain")
    result = run("compact", *quick, "--dry-run", "--force")
    assert result.exit_code == 0, result.output
    for said in ("trained wording: 100.0%", "exact McNemar p = ", "leak: ", "dry run: nothing was written"):
        assert said in result.stdout, said
    worse = lambda found, max_loss: [f"trained_wording is worse than {max_loss}"]  # noqa: E731
    monkeypatch.setattr("memedit.editor.compacting.Consolidation.reasons", worse)
    result = run("compact", *quick, "--max-loss", 0.25, "--json")
    assert (result.exit_code, json.loads(result.stdout)["edit"]) == (1, None)
    assert "not equal or better: trained_wording is worse than 0.25" in result.stderr
    assert len(json.loads(run("log", "--json").stdout)["edits"]) == 2


def test_nothing_to_do_is_said(run, store):
    for arguments, said in (
        (["forget"], "nothing to forget: got no FACTS and no --subject"),
        (["compact"], "has nothing to compact: only edit e0001-"),
        (["compact", "--store", "nowhere"], "there is no store at nowhere"),
        (["forget", "x", "--store", "nowhere"], "there is no store at nowhere"),
        (["compact", "--retrain", "--store", "nowhere"], "there is no store at nowhere"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr
    assert not Path("nowhere").exists()


def test_an_exact_compaction_loads_no_model(store, commit):
    commit(store, 2)
    probe = (
        "import sys\nfrom memedit.cli import cli\n"
        f"cli(['compact', '--store', {str(store)!r}], standalone_mode=False)\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
    with Store.open(store, fingerprint=None, read_only=True) as opened:
        assert [edit.kind for edit in opened.edits()] == ["inject", "inject", "compact"]


def test_an_exact_dry_run_writes_nothing(run, store, commit):
    commit(store, 2)
    before = sorted(path.name for path in (store / "patches").iterdir())
    report = json.loads(run("compact", "--dry-run", "--json").stdout)
    assert (report["edit"], len(report["merged"])) == (None, 2)
    assert "dry run: nothing was written" in run("compact", "--dry-run").stdout
    assert sorted(path.name for path in (store / "patches").iterdir()) == before


def test_a_report_that_says_little_is_shown(run, store):
    # Made by a program on the store, not by the editor.
    with Store.open(store, fingerprint="model-a") as opened:
        empty = TablePatch(np.empty(0, np.int64), np.empty((0, 4), np.float32), np.empty(0, np.int64))
        withdrawal = Withdrawal(opened.edits()[0].id, "Land1")
        created = "2026-01-02T03:04:05+00:00"
        opened.commit(NewEdit((), (), Patch((empty,)), {}, 0, created, (), "forget", (withdrawal,)))
    result = run("show", 2)
    assert result.exit_code == 0, result.output
    assert "active forget" in result.stdout
    assert "1 of 2" in run("log").stdout


def test_refusals_exit_1():
    assert ForgettingRefused.exit_code == CompactionRefused.exit_code == 1
