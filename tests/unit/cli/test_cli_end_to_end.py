"""The commands with the real editor, on a tiny random model: from facts to an edit, asked, undone, redone."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace

import pytest

from memedit.editor.reporting import outcome_after

REPORT_KEYS = {
    *("edit", "counts", "metrics", "seconds", "peak_memory_mb", "slots_written", "patch_bytes", "gate"),
    *("retained_lost", "leaked", "not_learned", "model", "seed", "versions", "read", "gate_mode"),
}
METRICS = {
    *("trained_wording", "held_out_wording", "question", "retained", "perplexity_ratio", "leak"),
    "look_alikes_changed",
}
COUNTS = {"facts", "already_known", "stored", "learned", "learned_in_other_wordings", "failed"}
PROMPT = "The capital of Land1 is"


@pytest.fixture
def model(tmp_path, tiny_memory_llama, tiny_tokenizer):
    """The folder of a tiny memory-layer Llama."""
    folder = tmp_path / "tiny"
    tiny_memory_llama(memory_placement="parallel", memory_empty_base=True).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def inject(run, model, facts_file, tmp_path):
    """Run `inject` on the tiny model; its random answers are never right, so exit code 1 is the rule."""
    (tmp_path / "text.txt").write_text("A short walk by the river.\n\nThe bridge was closed for the winter.")
    options = ("--model", model, "--text", "text.txt", "--gate", "off", "--allow-unlearned")
    return lambda *more: run("inject", facts_file, *options, *more)


@pytest.fixture
def learned(monkeypatch):
    """Call the first fact learned, whatever the random model says: only then is there something to commit."""

    def outcome(fact, before, answered, result, index):
        found = outcome_after(fact, before, answered, result, index)
        return replace(found, status="learned", note=None) if index == 0 else found

    monkeypatch.setattr("memedit.editor.transaction.outcome_after", outcome)


@pytest.mark.usefixtures("learned")
def test_inject_ask_undo_redo(run, inject, model, facts_file):
    result = inject("--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert set(report) == REPORT_KEYS
    assert report["model"] == str(model)
    assert report["read"] == {
        "source": str(facts_file),
        "format": "memedit",
        "records": 3,
        "facts": 3,
        "questions": 0,
        "bad": 0,
        "merged": 0,
        "probes_left_out": 0,
    }
    assert set(report["counts"]) == COUNTS
    assert set(report["metrics"]) == METRICS
    assert all(set(each) == {"value", "n", "low", "high", "protocol"} for each in report["metrics"].values())
    assert set(report["seconds"]) == {"total", "training", "evaluation", "gate"}
    assert set(report["gate"]) == {"passed", "reasons", "notes"}
    assert all(set(each) == {"id", "prompt", "answer", "reason"} for each in report["not_learned"])
    edit = json.loads(run("show", 1, "--json").stdout)
    assert edit["report"] == report
    assert edit["slots_written"] == report["slots_written"] > 0
    assert edit["patch_bytes"] == report["patch_bytes"]
    assert {"fact_id", "status", "before", "after", "held_out", "question", "note"} == set(
        edit["facts"][0]["outcome"]
    )

    def asked(*options):
        result = run("ask", PROMPT, "--json", *options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    active, without = asked(), asked("--without", 1)
    assert set(active) >= {"prompt", "text", "confidence", "subject", "mass", "facts", "without"}
    assert (active["without"], without["without"]) == (None, report["edit"])
    assert without["facts"] == []
    assert run("undo").exit_code == 0
    undone = asked()
    assert {**without, "without": None} == undone
    assert run("redo").exit_code == 0
    assert asked() == active


@pytest.mark.usefixtures("learned")
def test_model_folder_is_recorded_for_any_working_folder(run, inject, model, tmp_path, monkeypatch):
    report = json.loads(inject("--json", "--model", model.name).stdout)
    assert report["model"] == str(model)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    asked = run("ask", PROMPT, "--store", tmp_path / ".memedit")
    assert asked.exit_code == 0, asked.output


@pytest.mark.usefixtures("learned")
def test_dry_run_makes_no_store(run, inject, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    result = inject("--dry-run")
    assert result.exit_code == 0, result.output
    assert "dry run: nothing was written" in result.stdout
    assert json.loads(inject("--dry-run", "--json").stdout)["edit"] is None
    assert not (tmp_path / ".memedit").exists()
    assert not any((tmp_path / "temporary").iterdir())


@pytest.mark.usefixtures("learned")
def test_dry_run_leaves_no_edit_in_a_store(run, inject, tmp_path):
    assert inject().exit_code == 0
    before = json.loads(run("log", "--json").stdout)["edits"]
    (tmp_path / "facts.jsonl").write_text('{"prompt": "The capital of Land7 is", "target": "Town7"}')
    assert inject("--dry-run").exit_code == 0
    assert json.loads(run("log", "--json").stdout)["edits"] == before


def test_an_edit_that_taught_nothing_is_not_committed(run, inject, model, facts_file):
    result = run("inject", facts_file, "--model", model, "--text", "text.txt", "--gate", "off")
    assert result.exit_code == 1
    assert "nothing was written: no fact was newly learned" in result.stdout
    assert "3 fact(s) were not learned" in result.stderr
    assert json.loads(run("log", "--json").stdout)["edits"] == []


@pytest.mark.usefixtures("learned")
def test_screen(inject):
    result = inject()
    assert result.exit_code == 0, result.output
    assert PROMPT in result.stdout
    assert "perplexity ratio" in result.stdout
    assert "is in .memedit" in result.stdout


@pytest.mark.usefixtures("learned")
def test_stored_facts_are_left_alone_and_failed_ones_are_tried_again(inject, facts_file):
    assert inject().exit_code == 0
    again = inject()
    assert again.exit_code == 0, again.output
    assert "1 in the store" in again.stdout
    facts_file.write_text(facts_file.read_text().splitlines()[0] + "\n")
    result = inject()
    assert result.exit_code == 0, result.output
    assert "1 in the store" in result.stdout
    assert "nothing was written: no fact was newly learned" in result.stdout


@pytest.mark.usefixtures("learned")
def test_contradicting_fact_is_refused(inject, facts_file):
    assert inject().exit_code == 0
    facts_file.write_text(facts_file.read_text().replace("Town1", "Lutz"))
    result = inject("--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert "memedit undo e0001-" in result.stderr
