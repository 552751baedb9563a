"""`memedit show model` with real models: costs, bytes, written rows, ablation; nothing on disk changes."""

from __future__ import annotations

import hashlib
import json

import pytest
import small_world
import table_world
from saved_world import commit_patch, write_facts

from memedit.modeling import model_fingerprint
from memedit.modeling.accounting import model_account

KEYS = {
    *("model", "store", "edits", "context", "memory", "parts", "totals", "written", "memory_runs"),
    "ablation",
}


def saved(folder, model, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def digests(*folders):
    """What is in folders; SQLite makes its lock files (-shm, an empty -wal) for readers too."""
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
    kept = [file for file in files if not file.name.endswith("-shm") and file.stat().st_size]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in kept}


@pytest.fixture
def table_model(tmp_path):
    """The folder of the small world whose new lands are in the table."""
    opened = table_world.table_world()
    return saved(tmp_path / "table-world", opened.model, opened.tokenizer)


@pytest.fixture
def retrofit(tmp_path):
    """The folder of the retrofitted small world, and its fingerprint."""
    opened = small_world.opened_world()
    return saved(tmp_path / "retrofit", opened.model, opened.tokenizer), model_fingerprint(opened.model)


def shown(result):
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found) == KEYS
    return found


def test_costs_of_a_model(run, tmp_path, tiny_memory_llama, tiny_tokenizer):
    model = tiny_memory_llama(memory_layers=[1, 2], memory_placement="replace")
    folder = saved(tmp_path / "tiny", model, tiny_tokenizer)
    result = run("show", "model", "--model", folder, "--context", 77, "--json")
    assert result.stderr == "note: there is no store at .memedit: showing the model without edits\n"
    found = shown(result)
    account = model_account(model.config, 77)
    assert (found["model"], found["store"], found["edits"], found["context"]) == (str(folder), None, 0, 77)
    assert [(part["name"], part["parameters"], part["flops_per_token"]) for part in found["parts"]] == [
        (part.name, part.parameters, part.flops) for part in account.parts
    ]
    stored = sum(4 * parameter.numel() for parameter in model.parameters())
    assert found["totals"] == {
        "parameters": account.parameters(),
        "active_parameters": account.active_parameters(),
        "flops_per_token": account.flops(),
        "bytes_in_memory": stored,
        "bytes_on_disk": stored,
    }
    assert found["memory"] == {
        "layers": [1, 2],
        "placement": "replace",
        "variant": "values",
        "num_keys": 16,
        "key_dim": 16,
        "heads": 2,
        "top_k": 4,
        "query_window": 1,
        "shared_table": True,
        "value_dim": 48,
        "num_tables": 1,
        "num_slots": 256,
        "has_base_rows": True,
    }
    assert found["written"] == dict.fromkeys(
        ("rows", "distinct_rows", "owners", "bytes_in_memory", "bytes_on_disk"), 0
    )
    assert found["memory_runs"] is True
    assert found["ablation"] is None


def test_text_of_a_model(run, tmp_path, tiny_memory_llama, tiny_tokenizer):
    model = tiny_memory_llama(memory_layers=[1, 2])
    folder = saved(tmp_path / "tiny", model, tiny_tokenizer)
    result = run("show", "model", "--model", folder)
    assert result.exit_code == 0, result.output
    assert (
        "memory layers: block 1, 2, beside the FFN; 2 heads, 4 slots a head, query window 1" in result.stdout
    )
    assert "value tables: 1 shared by them, 256 slots each, value rows of width 48\n" in result.stdout
    account = model_account(model.config, 512)
    (total,) = (line.split() for line in result.stdout.splitlines() if line.startswith("all "))
    assert total[1:4] == [
        f"{number:,}" for number in (account.parameters(), account.active_parameters(), account.flops())
    ]
    assert "written rows: none" in result.stdout
    assert "skipped" not in result.stdout


def test_retrofit_without_edits_says_what_is_skipped(run, retrofit):
    folder, _ = retrofit
    result = run("show", "model", "--model", folder)
    dense = model_account(small_world.opened_world().model.config, 512).flops("dense")
    assert f"the memory layers are skipped: a token costs {dense:,} FLOPs now" in result.stdout
    assert "base empty (a retrofit)" in result.stdout
    assert shown(run("show", "model", "--model", folder, "--json"))["memory_runs"] is False


def test_edits_of_a_store_are_counted_and_kept(run, retrofit, tmp_path):
    folder, fingerprint = retrofit
    store = tmp_path / "my-store"
    edits = [commit_patch(store, fingerprint, scale=0.1, seed=seed, num_rows=100) for seed in (1, 2)]
    before = digests(store, folder)
    found = shown(run("show", "model", "--model", folder, "--store", store, "--json"))
    assert (found["model"], found["store"], found["edits"]) == ("retrofit", str(store), 2)
    assert 100 < found["written"]["rows"] <= 200
    assert found["written"]["bytes_on_disk"] == sum(edit.patch_bytes for edit in edits)
    assert found["written"]["bytes_in_memory"] >= found["written"]["distinct_rows"] * 64 * 4
    assert found["memory_runs"] is True
    assert digests(store, folder) == before
    run("undo", "--store", store)
    undone = shown(run("show", "model", "--model", folder, "--store", store, "--json"))
    assert (undone["edits"], undone["written"]["rows"]) == (1, 100)


def test_ablation_says_what_the_table_is_worth(run, table_model, tmp_path):
    facts = write_facts(tmp_path / "facts.jsonl", table_world.table_facts())
    before = digests(table_model)
    options = ("show", "model", "--model", table_model, "--ablate", "--facts", facts)
    states = shown(run(*options, "--json"))["ablation"]["states"]
    recall = {state: [metric["value"] for metric in found["recall"]] for state, found in states.items()}
    assert min(recall["as_it_is"]) >= 7 / 8
    assert recall["zeroed"] == [0, 0]
    assert max(recall["shuffled"]) <= 4 / 8
    text = run(*options).stdout
    states = ("as it is", "base rows zeroed", "base rows shuffled")
    rows = [line.split("  ")[0] for line in text.splitlines() if line.startswith(states)]
    assert rows == [state for state in states for _ in ("trained wording", "held-out wordings")]
    assert "0.0% [0.0%, 32.4%] n 8" in text
    assert digests(table_model) == before


def test_ablation_with_edits_leaves_the_store_as_it_was(run, table_model, tmp_path):
    store, fingerprint = tmp_path / "my-store", model_fingerprint(table_world.table_world().model)
    commit_patch(store, fingerprint, scale=30.0)
    facts = write_facts(tmp_path / "facts.jsonl", table_world.table_facts()[:2])
    before = digests(store, table_model)
    options = ("--model", table_model, "--store", store, "--ablate", "--facts", facts, "--seed", 4, "--json")
    ablation = shown(run("show", "model", *options))["ablation"]
    assert list(ablation["states"]) == ["as_it_is", "zeroed", "shuffled", "unwritten"]
    assert (ablation["seed"], ablation["notes"]) == (4, [])
    assert min(metric["value"] for metric in ablation["states"]["unwritten"]["recall"]) >= 1 / 2
    assert digests(store, table_model) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--ablate",), "--ablate: got no facts to ask"),
        (("--facts", "facts.jsonl"), "--facts is for --ablate"),
        (("--seed", 1), "--seed is for --ablate"),
        (("--format", "zsre"), "--format is for --ablate"),
        (("--store", "nowhere"), "there is no store at nowhere"),
        (("--ablate", "--facts", "nothing.jsonl"), "nothing.jsonl"),
        (("--context", 0), "--context"),
    ],
)
def test_wrong_usage_is_said_before_a_model_is_loaded(run, facts_file, monkeypatch, options, said):
    monkeypatch.setattr(
        "memedit.modeling.opening.open_model", lambda *_, **__: pytest.fail("a model was loaded")
    )
    result = run("show", "model", *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_questions_alone_cannot_be_asked_in_wordings(run, tmp_path):
    (tmp_path / "nq.jsonl").write_text(json.dumps({"question": "who was it", "answer": ["Ann"]}) + "\n")
    result = run("show", "model", "--ablate", "--facts", "nq.jsonl")
    assert result.exit_code == 2
    assert "--facts nq.jsonl: got no facts, expected at least one" in result.stderr


@pytest.mark.usefixtures("store")
def test_edits_are_shown_as_before(run):
    assert "edit e0001" in run("show", 1).stdout
    result = run("show", "--json", "model")
    assert result.exit_code == 2
    assert "Put them behind it: memedit show model --json" in result.stderr


def test_help_is_its_own(run):
    result = run("show", "model", "--help")
    assert result.stdout.startswith("Usage: memedit show model [OPTIONS]")
    assert "Usage: memedit show [OPTIONS] EDIT" in run("show", "--help").stdout
