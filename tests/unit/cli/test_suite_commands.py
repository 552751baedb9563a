"""`memedit suite build` and `memedit test` on a small Llama: files, verdicts, exit codes."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
import small_world
from saved_world import HARMFUL, commit_patch, save_world, write_facts

from memedit.evaluation import read_suite

KEYS = {
    *(
        "suite",
        "store",
        "model",
        "edits",
        "items",
        "passed",
        "reasons",
        "overall",
        "groups",
        "lost",
        "gained",
    ),
    *("seconds", "baseline_updated"),
}


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory):
    """The folder of the small model."""
    return save_world(tmp_path_factory.mktemp("models") / "world")


@pytest.fixture
def known(monkeypatch):
    """The bundled facts are what the small model was trained on; a mutable list."""
    facts = list(small_world.known_facts())
    for module in ("measuring", "testing"):
        monkeypatch.setattr(f"memedit.editor.{module}.well_known_facts", lambda: facts)
    monkeypatch.setattr("memedit.editor.session.general_text", lambda _=None: "A short walk by the river.")
    return facts


@pytest.fixture
def cli(run, world_folder, known):
    """Run a command with the small model; the result must have this exit code."""

    def ran(*arguments, code=0):
        result = run(*arguments, "--model", world_folder)
        assert result.exit_code == code, result.output
        return result

    return ran


@pytest.fixture
def fingerprint(world_folder):
    """The small model's fingerprint."""
    from memedit.modeling import model_fingerprint

    return model_fingerprint(small_world.opened_world().model)


@pytest.fixture
def commit(tmp_path, fingerprint):
    """Commit random rows of a scale to the default store."""
    return lambda scale, seed=0: commit_patch(tmp_path / ".memedit", fingerprint, scale=scale, seed=seed)


def test_build_and_test_without_a_store(cli, known, tmp_path):
    built = cli("suite", "build")
    assert "well_known: 24 asked, 24 in the suite" in built.stdout
    assert "knowledge.toml holds 24 items; commit it\n  memedit test" in built.stdout
    assert "note: there is no store at .memedit: asking the model without edits" in built.stderr
    suite = read_suite("knowledge.toml")
    assert {item.id for item in suite.items} == {fact.id for fact in known}
    assert (suite.model, suite.edits) == ("world", ())
    tested = cli("test")
    assert "knowledge.toml: 24 items, asked of world" in tested.stdout
    assert "passed in" in tested.stdout
    assert not (tmp_path / ".memedit").exists()


def test_a_harmful_edit_fails_and_shows_both_texts(cli, commit, known):
    cli("suite", "build")
    commit(HARMFUL)
    result = cli("test", code=1)
    first = next(line for line in result.stdout.splitlines() if line.startswith("lost: "))
    assert first.startswith("lost: The capital of ")
    assert "  before  " in result.stdout
    assert "  now     " in result.stdout
    assert "regression: all groups: " in result.stdout
    assert "item(s) were lost, more than is allowed (exit code 1)" in result.stderr


def test_many_losses_are_cut_unless_all_are_asked_for(cli, commit):
    cli("suite", "build")
    commit(1e30)
    lost = json.loads(cli("test", "--json", code=1).stdout)["lost"]
    assert len(lost) > 20
    short, whole = cli("test", code=1).stdout, cli("test", "--all", code=1).stdout
    assert (short.count("lost: "), whole.count("lost: ")) == (20, len(lost))
    assert f"and {len(lost) - 20} more lost; --all shows them" in short


def test_json(cli, commit):
    report = json.loads(cli("suite", "build", "--json").stdout)
    assert report["out"] == "knowledge.toml"
    assert report["items"] == 24
    assert report["groups"] == [{"name": "well_known", "asked": 24, "added": 24}]
    assert (report["unknown"], report["model"], report["edits"]) == ([], "world", [])
    edit = commit(1e-3)
    result = json.loads(cli("test", "--json").stdout)
    assert set(result) == KEYS
    assert (result["suite"], result["model"], result["edits"]) == ("knowledge.toml", "world", [edit.id])
    assert (result["passed"], result["items"], result["lost"]) == (True, 24, [])


def test_junit_is_written_whatever_the_verdict(cli, commit, tmp_path):
    cli("suite", "build", "--collect", "group")
    cli("test", "--junit", "report.xml")
    suite = ET.parse(tmp_path / "report.xml").getroot()[0]
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("knowledge.toml", "1", "0")
    commit(HARMFUL)
    cli("test", "--junit", "report.xml", code=1)
    assert ET.parse(tmp_path / "report.xml").getroot()[0].get("failures") == "1"


def test_the_limit_can_be_given(cli, commit, known):
    cli("suite", "build", "--max-loss", "0.5")
    path = read_suite("knowledge.toml")
    assert path.max_loss == 0.5
    # One answer that the model never gave.
    text = path.path.read_text().replace('answers = ["Lutz"]', 'answers = ["Nowhere"]', 1)
    path.path.write_text(text)
    assert "lost: " in cli("test").stdout
    cli("test", "--max-loss", "0", code=1)
    cli("test", "--max-loss", "nan", code=2)


def test_a_new_baseline_accepts_what_was_lost(cli, commit):
    cli("suite", "build")
    path = read_suite("knowledge.toml").path
    path.write_text(path.read_text() + "# ours\n")
    edit = commit(HARMFUL)
    result = cli("test", "--update-baseline")
    assert "knowledge.toml: baseline renewed, " in result.stderr
    suite = read_suite("knowledge.toml")
    assert suite.edits == (edit.id,)
    assert sum(item.known_before for item in suite.items) < 12
    assert suite.path.read_text().endswith("# ours\n")
    cli("test")


def test_a_suite_is_kept_unless_told_otherwise(cli, known, tmp_path):
    whole = list(known)
    known[:] = whole[:5]
    cli("suite", "build")
    assert "exists already" in cli("suite", "build", code=2).stderr
    assert "exclude each other" in cli("suite", "build", "--add", "--force", code=2).stderr
    assert "knows nothing that is not in it" in cli("suite", "build", "--add").stderr
    facts = write_facts(tmp_path / "more.jsonl", whole[3:8])
    assert json.loads(cli("suite", "build", "--add", "--facts", facts, "--json").stdout)["items"] == 8
    suite = read_suite("knowledge.toml")
    assert [item.group for item in suite.items] == ["well_known"] * 5 + ["more"] * 3
    cli("test")
    cli("suite", "build", "--force", "--max-items", "2")
    assert len(read_suite("knowledge.toml").items) == 2


def test_jsonl(cli):
    cli("suite", "build", "--out", "k.jsonl", "--max-items", "3", "--seed", "4")
    assert (len(read_suite("k.jsonl").items), read_suite("k.jsonl").seed) == (3, 4)
    assert "k.jsonl: 3 items" in cli("test", "k.jsonl").stdout


def test_the_same_seed_makes_the_same_file(cli, tmp_path):
    cli("suite", "build", "--max-items", "9")
    cli("suite", "build", "--max-items", "9", "--out", "b.toml")
    assert (tmp_path / "knowledge.toml").read_bytes() == (tmp_path / "b.toml").read_bytes()


def test_without_a_suite_the_store_implies_one(cli, commit):
    assert "nothing to test: no knowledge.toml" in cli("test", code=2).stderr
    assert "--update-baseline needs a suite file" in cli("test", "--update-baseline", code=2).stderr
    edit = commit(1e-3)
    result = json.loads(cli("test", "--json").stdout)
    assert (result["suite"], result["passed"], result["edits"]) == (None, True, [edit.id])
    assert result["items"] == 24
    commit(HARMFUL)
    assert "the suite that the store implies: 24 items" in cli("test", code=1).stdout


def test_a_store_without_active_edits(cli, commit, run):
    commit(HARMFUL)
    assert run("undo").exit_code == 0
    cli("suite", "build")
    assert read_suite("knowledge.toml").edits == ()
    cli("test")


def test_a_store_that_was_named_must_be_there(cli):
    cli("suite", "build")
    for command in (("test",), ("suite", "build", "--force")):
        assert "there is no store at elsewhere" in cli(*command, "--store", "elsewhere", code=2).stderr


@pytest.mark.parametrize("with_store", [True, False])
def test_a_suite_for_another_model_is_refused_with_both_names(cli, commit, with_store):
    cli("suite", "build")
    text = read_suite("knowledge.toml").path.read_text()
    fingerprint = read_suite("knowledge.toml").fingerprint
    other = text.replace(fingerprint, "0" * 64).replace('name = "world"', 'name = "llama-9b"')
    read_suite("knowledge.toml").path.write_text(other)
    if with_store:
        commit(1e-3)
    error = cli("test", code=2).stderr
    assert "was made for the model llama-9b (fingerprint 000000000000)" in error
    assert f"(fingerprint {fingerprint[:12]})" in error
    assert "of the store .memedit" in error if with_store else "this is the model world" in error
    assert "llama-9b" in cli("suite", "build", "--add", code=2).stderr
    cli("test", "--update-baseline")
    assert read_suite("knowledge.toml").fingerprint == fingerprint


def test_mistakes_are_said_before_a_model_is_loaded(run, monkeypatch, tmp_path, known):
    monkeypatch.setattr("memedit.editor.open_editor", None)
    (tmp_path / "bad.toml").write_text(
        'memedit_suite = 1\n[[item]]\nid = "a"\nprompt = ""\nanswers = ["x"]\n'
    )
    for arguments, said in (
        (("test", "bad.toml"), "error: bad.toml:4: prompt must hold text"),
        (("test", "none.toml"), "error: suite none.toml does not exist"),
        (("test", "bad.toml", "--max-loss", "2"), "2.0 is not in the range 0<=x<=1"),
        (("suite", "build", "--out", "no/k.toml"), "there is no folder no"),
        (("suite", "build", "--facts", "no.jsonl"), "facts file no.jsonl does not exist"),
        (("suite", "build", "--add", "--out", "bad.toml"), "bad.toml:4: prompt must hold text"),
        (("suite", "build", "--max-items", "0"), "0 is not in the range x>=1"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert said in result.stderr


def test_a_report_that_cannot_be_written_is_said_first(cli):
    cli("suite", "build")
    assert "there is no folder no" in cli("test", "--junit", "no/report.xml", code=2).stderr


def test_injected_facts_that_are_gone_are_named(cli, known, tmp_path, fingerprint):
    # The journal says that the fact was learned; the model says otherwise.
    commit_patch(tmp_path / ".memedit", fingerprint, scale=1e-3, status="learned")
    result = cli("suite", "build")
    assert "not known now: The capital of Zubrow is" in result.stdout
    assert "injected: 1 asked, 1 in the suite" in result.stdout
    # What was wrong at the baseline cannot be lost; the store's own suite demands it.
    cli("test", "--max-loss", "0")
    (tmp_path / "knowledge.toml").unlink()
    assert "lost: The capital of Zubrow is  [Nowhere]" in cli("test", "--max-loss", "0", code=1).stdout


def test_facts_files_are_read_in_any_format_that_memedit_knows(cli, known, tmp_path):
    known.clear()
    lines = [{"question": "who was it", "answer": ["Lutz"]}, {"question": "", "answer": []}]
    write_facts(tmp_path / "lands.jsonl", small_world.known_facts())
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "qa.jsonl:2" in cli("suite", "build", "--facts", "qa.jsonl", code=2).stderr
    files = ("--facts", "qa.jsonl", "--facts", "lands.jsonl")
    result = cli("suite", "build", *files, "--skip-bad", "--json")
    assert "1 of 2 records are bad" in result.stderr
    groups = {group["name"]: group["asked"] for group in json.loads(result.stdout)["groups"]}
    assert groups == {"qa": 1, "lands": 24}
    prompts = [item.prompt for item in read_suite("knowledge.toml").items if item.group == "qa"]
    assert all(prompt.endswith("Question: who was it?\nAnswer:") for prompt in prompts)
