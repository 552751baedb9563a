"""`memedit export`, `patch export` and `patch import`: what they print, write and refuse."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from memedit.modeling import load_memory_llama, model_fingerprint
from memedit.store import NewEdit, Owner, Patch, Store, TablePatch

ROOT = Path(__file__).parents[3]
EXPORT_KEYS = {
    *("out", "kind", "base_model", "fingerprint", "edits", "num_facts", "files", "size_bytes", "seconds"),
}
CREATED = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def model(tmp_path, tiny_memory_llama, tiny_tokenizer):
    """The folder of a tiny retrofit."""
    folder = tmp_path / "tiny"
    tiny_memory_llama(memory_empty_base=True, memory_query_window=3).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def taught(tmp_path, model, make):
    """A store of the tiny model, with rows that many tokens hit."""
    import numpy as np

    fact = make.outcome(1).fact
    slots, dim = np.arange(0, 256, 2), 48
    delta = np.random.default_rng(0).standard_normal((1, dim)).astype(np.float32)
    zeros = np.zeros(len(slots), np.int64)
    patch = Patch((TablePatch(slots, delta, zeros, zeros),), (Owner(fact.subject, 0.3, (fact.id,)),))
    outcome = {"fact_id": fact.id, "status": "learned", "after": fact.target}
    with Store.open(tmp_path / ".memedit", fingerprint=model_fingerprint(load_memory_llama(model))) as store:
        return store.commit(
            NewEdit((fact,), (outcome,), patch, {**make.report(), "model": str(model)}, 0, CREATED)
        )


def test_export_for_transformers(run, taught, tmp_path):
    result = run("export", "out", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert set(told) == EXPORT_KEYS
    assert (told["kind"], told["base_model"], told["edits"], told["num_facts"]) == (
        "model",
        "tiny",
        [taught.id],
        1,
    )
    assert told["size_bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert sorted(told["files"]) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert load_memory_llama(tmp_path / "out").overlay().num_rows == 128


def test_the_example_in_the_card_runs_without_memedit(run, taught, tmp_path, tiny_tokenizer):
    assert run("export", "out").exit_code == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    refusing = (
        "import sys\nclass R:\n def find_spec(self, name, path=None, target=None):\n"
        "  if name.partition('.')[0] in ('memedit', 'memedit_kernels'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, R())\n"
    )
    caches = {"HF_HOME": str(tmp_path / "hf"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-I", "-X", "utf8", "-c", refusing + example]
    done = subprocess.run(
        command, capture_output=True, cwd=tmp_path / "out", env={**os.environ, **caches}, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert "'<|im_start|>The capital of Land1 is'" in example
    edited = load_memory_llama(tmp_path / "out")
    ids = tiny_tokenizer("<|im_start|>The capital of Land1 is", add_special_tokens=False)["input_ids"]
    answer = edited.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)[0, len(ids) :]
    assert done.stdout.decode() == tiny_tokenizer.decode(answer, skip_special_tokens=True) + "\n"


def test_export_on_the_screen(run, taught):
    result = run("export", "out")
    assert result.exit_code == 0
    assert result.stdout.startswith("edited model: 1 fact(s) of 1 active edit(s) on tiny are in out (")
    assert "AutoModelForCausalLM.from_pretrained('out', trust_remote_code=True)" in result.stdout
    result = run("export", "delta", "--delta")
    assert result.stdout.startswith("edits alone: 1 fact(s) of 1 active edit(s) on tiny are in delta (")
    assert "memedit.load_delta('delta')" in result.stdout


def test_export_of_the_edits_alone(run, taught, model, tmp_path):
    import memedit

    told = json.loads(run("export", "delta", "--delta", "--json").stdout)
    assert told["kind"] == "delta"
    assert f"patches/{taught.id}.safetensors" in told["files"]
    loaded = memedit.load_delta(tmp_path / "delta", model=model)
    ids = torch.arange(3, 40)[None]
    assert run("export", "out").exit_code == 0
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, load_memory_llama(tmp_path / "out")(ids).logits)


def test_export_without_a_store(run, model, tmp_path):
    result = run("export", "out", "--model", model, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == "note: there is no store at .memedit: exporting the model without edits\n"
    assert json.loads(result.stdout)["edits"] == []
    assert not (tmp_path / ".memedit").exists()
    result = run("export", "delta", "--model", model, "--delta")
    assert result.exit_code == 2
    assert "has no active edit to export" in result.stderr
    result = run("export", "other", "--store", "nowhere")
    assert (result.exit_code, "there is no store at nowhere" in result.stderr) == (2, True)
    assert not (tmp_path / "other").exists()


def test_a_folder_that_is_taken_is_refused_before_a_model_is_loaded(run, taught, tmp_path, monkeypatch):
    monkeypatch.setattr("memedit.editor.open_editor", None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    result = run("export", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: OUT must be a new or empty folder, out is not\nChoose another folder.\n"


def test_a_killed_export_leaves_nothing_that_looks_whole(run, taught, tmp_path):
    code = (
        "import os, signal, memedit.editor.exporting as exporting\n"
        "exporting.model_card = lambda card: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from memedit.cli import cli\ncli(['export', 'out'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert run("export", "out").exit_code == 0
    assert not list(tmp_path.glob(".out.*"))


def test_patch_there_and_back(run, store, tmp_path):
    exported = json.loads(run("patch", "export", 1, "edit.safetensors", "--json").stdout)
    assert set(exported) == {"out", "edit", "num_facts", "left_out", "fingerprint", "num_bytes"}
    assert (exported["num_facts"], exported["left_out"], exported["fingerprint"]) == (2, 0, "model-a")
    assert exported["num_bytes"] == (tmp_path / "edit.safetensors").stat().st_size
    result = run("patch", "import", "edit.safetensors", "--store", "other", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    imported = json.loads(result.stdout)
    assert (imported["edit"], imported["imported_from"]) == (exported["edit"], exported["edit"])
    here, there = (
        json.loads(run("show", 1, "--store", place, "--json").stdout) for place in (".memedit", "other")
    )
    assert here["facts"] == there["facts"]
    assert here["measurements"] == there["measurements"]
    assert here["report"]["metrics"] == there["report"]["metrics"]
    assert json.loads(run("undo", "--store", "other", "--json").stdout)["active"] is False


def test_patch_on_the_screen(run, store):
    result = run("patch", "export", 1, "edit.safetensors")
    assert result.exit_code == 0, result.output
    assert re.match(
        r"exported: edit e0001-\w{6} \(2 facts, [\d,]+ bytes\) is in edit.safetensors\n", result.stdout
    )
    result = run("patch", "import", "edit.safetensors", "--store", "other")
    assert result.exit_code == 0, result.output
    assert re.match(
        r"imported: edit e0001-\w{6} \(2 facts, e0001-\w{6} where it was made\) into other\n", result.stdout
    )
    assert "memedit undo e0001-" in result.stdout
    assert "active imported" in run("log", "--store", "other").stdout
    shown = run("show", 1, "--store", "other").stdout
    assert re.search(r"imported: made and measured 2026-01-02 .* as edit e0001-\w{6} of another store", shown)


def test_refused_imports_change_nothing(run, store, tmp_path):
    run("patch", "export", 1, "edit.safetensors")
    again = run("patch", "import", "edit.safetensors")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "is in store .memedit already, as e0001-" in again.stderr
    Store.open(tmp_path / "b", fingerprint="model-b").close()
    other = run("patch", "import", "edit.safetensors", "--store", "b")
    assert other.exit_code == 2
    assert "made for the model with fingerprint model-a, store b belongs to model-b" in other.stderr
    (tmp_path / "edit.safetensors").write_bytes((tmp_path / "edit.safetensors").read_bytes()[:-1])
    damaged = run("patch", "import", "edit.safetensors", "--store", "new")
    assert damaged.exit_code == 2
    assert "nothing was imported" in damaged.stderr
    assert not (tmp_path / "new").exists()
    for place in (".memedit", "b"):
        assert len(json.loads(run("log", "--store", place, "--json").stdout)["edits"]) == (
            place == ".memedit"
        )


def test_no_model_is_loaded_for_a_patch(run, store, tmp_path):
    run("patch", "export", 1, "edit.safetensors")
    probe = (
        "import sys\nfrom memedit.cli import cli\n"
        "cli(['patch', 'import', 'edit.safetensors', '--store', 'other'], standalone_mode=False)\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.stdout.splitlines()[-1] == "[]"
