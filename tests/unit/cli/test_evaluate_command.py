"""`memedit evaluate` on a small Llama: what is printed and written, and which mistakes are said, when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_world
from saved_world import commit_patch, save_world, write_facts

from memedit.facts import look_alikes

KEYS = {"states", "differences", "notes", "lm_eval", "lm_eval_differences", "data"}
NOISY = 3.0
"""Scale of random rows that change most answers of the small world, mostly to another city."""


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory):
    """The folder of the small model."""
    return save_world(tmp_path_factory.mktemp("models") / "world")


@pytest.fixture(scope="session")
def fingerprint(world_folder):
    """The small model's fingerprint."""
    from memedit.modeling import model_fingerprint

    return model_fingerprint(small_world.opened_world().model)


@pytest.fixture
def cli(run, world_folder, monkeypatch):
    """Run `evaluate` with the small model and few questions; the result must have this exit code."""
    few = {
        "well_known_facts": lambda: small_world.known_facts()[:4],
        "look_alikes": lambda facts, *, num, seed: look_alikes(facts, num=24, seed=seed),
    }
    for name, made in few.items():
        monkeypatch.setattr(f"memedit.editor.families.{name}", made)
    monkeypatch.setattr("memedit.editor.session.general_text", lambda _=None: "A short walk by the river.")

    def ran(*arguments, code=0):
        result = run("evaluate", *arguments, "--model", world_folder)
        assert result.exit_code == code, result.output
        return result

    return ran


@pytest.fixture
def edits(tmp_path, fingerprint):
    """Ids of two noisy edits in the default store."""
    store = tmp_path / ".memedit"
    return [commit_patch(store, fingerprint, scale=NOISY, seed=seed).id for seed in (0, 1)]


@pytest.fixture
def facts(tmp_path):
    """A file with what the small model knows of half of the lands: every city is a target."""
    write_facts(tmp_path / "facts.jsonl", small_world.known_facts()[:12])
    return "facts.jsonl"


@pytest.fixture
def unopened(monkeypatch):
    """From here on no model may be loaded."""
    monkeypatch.setattr("memedit.editor.open_editor", None)


@pytest.fixture
def capitals(tmp_path):
    """A task file of lm-evaluation-harness with local data: the capitals of three lands."""
    known = small_world.known_facts()[:3]
    data = tmp_path / "capitals.jsonl"
    rows = [{"land": fact.subject, "choices": small_world.CITIES, "city": fact.target} for fact in known]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = {
        "task": "capitals",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
        "metadata": {"version": 1.0},
        "output_type": "multiple_choice",
        "doc_to_text": "The capital of {{land}} is",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{choices.index(city)}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    # JSON is YAML.
    (tmp_path / "capitals.yaml").write_text(json.dumps(task), encoding="utf-8")
    return "capitals.yaml"


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def metrics_of(state):
    return {metric["name"]: metric for metric in state["metrics"]}


def test_json_of_base_and_current(cli, edits, facts):
    found = json.loads(cli(facts, "--json").stdout)
    assert set(found) == KEYS
    assert list(found["states"]) == ["base", "current"]
    for state in found["states"].values():
        assert set(state) == {"metrics", "notes", "retention_matrix"}
    base, current = (metrics_of(found["states"][name]) for name in ("base", "current"))
    assert set(base["learned_exact_match"]) >= {"name", "value", "n", "low", "high", "protocol"}
    right = base["learned_exact_match"]["value"]
    assert right > 0.7
    changed = {metric["name"]: metric["value"] for metric in found["differences"]}
    assert changed["learned_exact_match"] == pytest.approx(current["learned_exact_match"]["value"] - right)
    assert changed["perplexity_ratio"] != 1
    assert {"retained", "look_alike_assertion_rate", "perplexity", "slot_usage"} <= set(current)
    assert (found["data"]["source"], found["data"]["facts"]) == (facts, 12)
    assert (found["lm_eval"], found["lm_eval_differences"]) == ({}, [])


def test_json_of_what_every_edit_left(cli, edits):
    found = json.loads(cli("--family", "lifelong", "--json").stdout)
    matrix = found["states"]["current"]["retention_matrix"]
    assert matrix["sizes"] == [1, 1]
    assert matrix["scores"] == [[0.0, None], [0.0, 0.0]]
    assert found["states"]["base"]["retention_matrix"] is None
    assert found["data"] is None


def test_the_screen_shows_two_states_and_their_change(cli, edits, facts):
    shown = cli(facts, "--family", "facts", "--on", edits[1], "--against", edits[0]).stdout
    header, *rows = shown.splitlines()
    assert header.split() == ["metric", edits[0], edits[1], "change", "n"]
    assert next(row for row in rows if row.startswith("learned_exact_match")).split()[-1] == "12"
    alone = cli(facts, "--family", "facts", "--on", "base", "--against", "none").stdout
    assert alone.splitlines()[0].split() == ["metric", "base", "n"]


def test_samples_have_both_texts_and_verdicts(cli, edits, facts, tmp_path):
    result = cli(facts, "--family", "facts", "--samples", "samples.jsonl")
    lines = lines_of(tmp_path / "samples.jsonl")
    assert f"{len(lines):,} samples in samples.jsonl" in result.stderr
    learned = [line for line in lines if line["metric"] == "learned_exact_match"]
    assert len(learned) == 12
    for line in learned:
        (city,) = line["expected"]
        assert line["verdict_before"] == float(line["before"].startswith(city))
        assert line["verdict_after"] == float(line["after"].startswith(city))
    assert any(line["before"] != line["after"] for line in learned)


def test_samples_have_what_the_comparison_found(cli, edits, facts, tmp_path):
    families = ("--family", "facts", "--family", "hallucination")
    result = cli(facts, *families, "--samples", "samples.jsonl", "--json")
    lines = lines_of(tmp_path / "samples.jsonl")
    changes = {metric["name"]: metric for metric in json.loads(result.stdout)["differences"]}
    for name in ("leak", "look_alikes_changed"):
        verdicts = [line["verdict_after"] for line in lines if line["metric"] == name]
        assert len(verdicts) == changes[name]["n"] > 12
        assert sum(verdicts) / len(verdicts) == pytest.approx(changes[name]["value"])
    leaked = [line for line in lines if line["metric"] == "leak" and line["verdict_after"]]
    assert leaked, "the noise must have made the model state some injected city"
    cities = {fact.id: fact.target for fact in small_world.known_facts()}
    for line in leaked:
        assert line["leaked_from"]
        assert all(line["after"].startswith(cities[fact]) for fact in line["leaked_from"])
        assert line["before"] != line["after"]


def test_samples_of_one_state(cli, facts, tmp_path):
    options = ("--family", "facts", "--on", "base", "--against", "none")
    cli(facts, *options, "--samples", "samples.jsonl")
    line = lines_of(tmp_path / "samples.jsonl")[0]
    assert set(line) == {"metric", "item", "prompt", "expected", "text", "verdict"}


def test_a_task_of_the_harness(cli, edits, capitals, tmp_path):
    result = cli("--lm-eval", capitals, "--samples", "samples.jsonl", "--json")
    found = json.loads(result.stdout)
    assert [state["metrics"] for state in found["states"].values()] == [[], []]
    task = found["lm_eval"]["base"]["tasks"]["capitals"]
    assert (task["n"], "samples" in task) == (3, False)
    accuracy = {name: run["tasks"]["capitals"]["metrics"]["acc"] for name, run in found["lm_eval"].items()}
    (change,) = found["lm_eval_differences"]
    assert (change["before"], change["after"]) == tuple(accuracy[name]["value"] for name in accuracy)
    lines = lines_of(tmp_path / "samples.jsonl")
    assert [line["metric"] for line in lines] == ["capitals/acc"] * 3
    assert [line["prompt"] for line in lines] == [fact.prompt for fact in small_world.known_facts()[:3]]
    for key, value in (("verdict_before", change["before"]), ("verdict_after", change["after"])):
        assert sum(line[key] for line in lines) / 3 == pytest.approx(value)
    assert result.stderr.strip().splitlines()[-1] == "3 samples in samples.jsonl"


def test_the_list_needs_no_model(cli, unopened):
    listed = json.loads(cli("--list", "--json").stdout)["metrics"]
    assert {"learned_exact_match", "leak", "backward_transfer"} <= {entry["name"] for entry in listed}
    assert all({"family", "formula", "protocol", "source"} <= set(entry) for entry in listed)
    assert "learned_exact_match (more is better)" in cli("--list").stdout


def test_mistakes_are_said_before_a_model_is_loaded(cli, unopened, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "The capital of Zubrow is"}\n', encoding="utf-8")
    for arguments, said in (
        (("bad.jsonl",), "bad.jsonl:1"),
        (("nowhere.jsonl",), "nowhere.jsonl does not exist"),
        (("--samples", "nope/x.jsonl"), "--samples nope/x.jsonl: there is no folder nope"),
        (("--store", "typo"), "there is no store at typo"),
        (("--store", ".memedit"), "there is no store at .memedit"),
        (("--on", "base", "--against", "base"), "--on and --against name the same state, got base twice"),
        (("--on", "e0001", "--against", "e0001"), "name the same state, got e0001 twice"),
        (("--family", "everything"), "'everything' is not one of"),
        (("--limit", "0"), "0 is not in the range x>=1"),
    ):
        result = cli(*arguments, code=2)
        assert said in result.stderr
        assert result.stdout == ""


def test_two_names_of_one_state_are_refused_before_a_model_is_loaded(cli, edits, unopened):
    first, second = edits
    for on, against, edit in (("1", first, first), ("e0001", "1", first), ("current", "2", second)):
        result = cli("--on", on, "--against", against, code=2)
        assert f"--on and --against name the same state, got {on} and {against}" in result.stderr
        assert f"the model right after edit {edit}" in result.stderr
        assert "--against none" in result.stderr
        assert result.stdout == ""


def test_without_a_store_a_note_says_what_is_measured(cli, facts, tmp_path):
    note = "note: there is no store at .memedit: measuring the model without edits, and its answers are not"
    result = cli(facts, "--family", "facts", "--json")
    assert note in result.stderr
    states = json.loads(result.stdout)["states"]
    assert states["base"] == states["current"]
    assert not (tmp_path / ".memedit").exists()


def test_a_store_is_not_noted(cli, edits):
    assert "note:" not in cli("--family", "health").stderr


def test_a_state_that_is_compared_with_nothing_is_noted(cli, edits, facts):
    options = (facts, "--family", "facts", "--on", "base", "--json")
    result = cli(*options)
    assert "note: base is compared with nothing" in result.stderr
    assert list(json.loads(result.stdout)["states"]) == ["base"]
    assert "note:" not in cli(*options, "--against", "none").stderr


def test_an_unknown_edit_is_named_with_those_there_are(cli, edits, unopened):
    for options in (("--on", "e0009"), ("--on", "e0009", "--against", "none"), ("--against", "e0009")):
        error = cli(*options, "--family", "facts", code=2).stderr
        assert "e0009" in error
        assert all(edit in error for edit in edits)


def test_what_was_measured_is_shown_though_the_samples_cannot_be_written(cli, edits, facts):
    # No file system takes such a name, not even root's.
    name = "x" * 300
    result = cli(facts, "--family", "facts", "--samples", name, "--json", code=2)
    assert metrics_of(json.loads(result.stdout)["states"]["current"])["learned_exact_match"]["n"] == 12
    assert f"error: --samples {name} cannot be written: " in result.stderr
    assert "learned_exact_match" in cli(facts, "--family", "facts", "--samples", name, code=2).stdout


def test_an_evaluation_that_still_holds_is_shown_without_the_model(cli, edits, facts, monkeypatch):
    options = (facts, "--family", "facts", "--json")
    first = cli(*options)
    assert "measured before" not in first.stderr

    def refuse(*_, **__):
        raise AssertionError("the model was opened")

    with monkeypatch.context() as patched:
        patched.setattr("memedit.editor.open_editor", refuse)
        again = cli(*options, "--samples", "again.jsonl")
        assert again.stdout == first.stdout
        assert "note: measured before" in again.stderr
        for changed in (("--seed", 1), ("--on", edits[0]), ("--fresh",)):
            with pytest.raises(AssertionError, match="was opened"):
                cli(*options, *changed)
    fresh = cli(*options, "--fresh", "--samples", "fresh.jsonl")
    assert fresh.stdout == first.stdout
    assert Path("again.jsonl").read_text() == Path("fresh.jsonl").read_text()
