"""The lifelong recipe on the small world: two edits, all its numbers, and going on after a kill."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import pytest
import small_world


@pytest.fixture
def recipe(monkeypatch):
    """The recipe, with the small world's knowledge as what must stay."""
    found = importlib.import_module("lifelong")
    measures = importlib.import_module("lifelong_measures")
    monkeypatch.setattr(measures, "well_known_facts", small_world.known_facts)
    monkeypatch.setattr("memedit.editor.measuring.well_known_facts", small_world.known_facts)
    monkeypatch.setattr("memedit.editor.transaction.well_known_facts", small_world.known_facts)
    return found


@pytest.fixture
def at_work(recipe, tmp_path):
    """Runs the recipe on one store and one record, as often as it is called."""
    from memedit.editor import Editor
    from memedit.modeling import model_fingerprint
    from memedit.store import Store

    text = tmp_path / "text.txt"
    text.write_text("A short walk by the river.\n\nThe bridge was closed for the winter.", encoding="utf-8")
    known = tmp_path / "known.jsonl"
    lines = [json.dumps(fact.to_json()) for fact in small_world.known_facts()[:3]]
    known.write_text("\n".join(lines), encoding="utf-8")
    # Held out are wordings near to the taught ones, at which gates open on every machine.
    near = [
        replace(fact, probes=replace(fact.probes, paraphrases=(f"Today the capital of {fact.subject} is",)))
        for fact in small_world.new_facts()
    ]
    facts = near[:4]
    plan = recipe.Plan(
        batch=2, batches=2, part=1, look_alikes=6, provenance=4, text=str(text), known=str(known)
    )

    def run(say=lambda line: None, **changes):
        opened = small_world.opened_world()
        record = recipe.Record(tmp_path / "out.json", recipe.identity_of(facts, plan) | changes)
        store = Store.open(tmp_path / "store", fingerprint=model_fingerprint(opened.model))
        with Editor(opened, store) as editor:
            settings = small_world.world_settings()
            return recipe.run(editor, facts, plan, record, settings=settings, say=say)

    run.facts, run.out, run.store = facts, tmp_path / "out.json", tmp_path / "store"
    return run


def test_two_edits_are_measured_after_each_and_on_everything_at_the_end(at_work, tmp_path):
    lines = []
    values = at_work(say=lines.append)
    final = values["final"]
    assert values == json.loads(at_work.out.read_text(encoding="utf-8"))
    assert len(lines) == 2
    assert len({entry["edit"] for entry in values["batches"]}) == 2
    # Everything at the end: four facts in every kind of wording, and each batch apart.
    assert {name: metric["n"] for name, metric in final["recall"].items()} == {
        "trained_wording": 4,
        "held_out_wording": 4,
        "after_unseen_sentence": 4,
    }
    right = sum(batch["trained_wording"]["value"] * 2 for batch in final["recall_by_batch"])
    assert right == pytest.approx(final["recall"]["trained_wording"]["value"] * 4)
    assert right >= 3
    # One fact of each batch in each round: the upper triangle was never asked.
    scores = final["retention_matrix"]["scores"]
    assert scores[0][1] is None
    assert None not in (scores[0][0], *scores[1])
    assert {metric["name"] for metric in final["over_batches"]} >= {"average_score", "forgetting"}
    assert final["retained"]["n"] == values["rounds"]["1"]["retained"]["n"] > 10
    assert final["perplexity_ratio"]["n"] == 2
    assert final["leak"]["n"] == 6
    assert values["rounds"]["1"]["leak"]["n"] < 6
    assert final["provenance"]["subject_found"]["n"] == 4
    found = final["provenance"]["subject_found"]["value"]
    assert found >= final["provenance"]["subject_loudest"]["value"] > 0
    costs = values["batches"][1]
    assert costs["seconds"]["total"] >= costs["seconds"]["training"] > 0
    assert costs["seconds"]["stages"]["Training"] > 0
    assert costs["patch_bytes"] == 2 * costs["patch_bytes_per_fact"]
    assert costs["rows"]["rows"] > values["batches"][0]["rows"]["rows"]
    fewest, median, most = costs["slots"]["rows_per_subject"]
    assert 0 < fewest <= median <= most
    assert costs["slots"]["subjects_without_rows"] == 0
    drawn = importlib.import_module("lifelong_figures").draw(values, tmp_path / "figures")
    assert len(drawn) == 4
    assert all(path.read_text(encoding="utf-8").count("<path") > 10 for path in drawn)


def test_a_killed_run_goes_on_with_what_it_has(at_work):
    def killed(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at_work(say=killed)
    first = json.loads(at_work.out.read_text(encoding="utf-8"))
    values = at_work()
    assert values["batches"][0] == first["batches"][0]
    assert values["rounds"]["1"] == first["rounds"]["1"]
    assert values["final"] is not None


def test_an_edit_that_was_committed_before_the_kill_is_not_made_again(at_work, recipe, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "written_rows", killed)  # after the commit, before the record is written
    with pytest.raises(KeyboardInterrupt):
        at_work()
    assert json.loads(at_work.out.read_text(encoding="utf-8"))["batches"] == []
    monkeypatch.undo()
    monkeypatch.setattr(
        importlib.import_module("lifelong_measures"), "well_known_facts", small_world.known_facts
    )
    values = at_work()
    assert [entry["found_in_journal"] for entry in values["batches"]] == [True, False]
    assert values["batches"][0]["learned"]


def test_a_record_of_other_facts_is_refused(at_work):
    at_work()
    with pytest.raises(SystemExit, match="another run"):
        at_work(seed=1)


def test_a_store_that_is_ahead_of_its_record_is_refused(at_work):
    at_work()
    at_work.out.unlink()
    with pytest.raises(SystemExit, match="other edits"):
        at_work()


def test_the_smoke_run_from_the_command_line_can_be_drawn_again_without_the_model(
    recipe, monkeypatch, tmp_path, capsys
):
    from memedit.editor import Editor
    from memedit.modeling import model_fingerprint
    from memedit.store import Store

    def opened(store, model):
        at_hand = small_world.opened_world()
        return Editor(at_hand, Store.open(store, fingerprint=model_fingerprint(at_hand.model)))

    monkeypatch.setattr("memedit.open", opened)
    facts = tmp_path / "facts.jsonl"
    told = [fact.to_json() for fact in small_world.new_facts()]
    facts.write_text("\n".join(map(json.dumps, told)), encoding="utf-8")
    command = [str(facts), "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out.json"), "--smoke"]
    assert recipe.main(command) == 0
    values = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [entry["counts"]["facts"] for entry in values["batches"]] == [4, 4]
    assert values["made_with"]["versions"]["memedit"]
    assert "trained_wording" in capsys.readouterr().out
    monkeypatch.setattr("memedit.open", None)
    assert recipe.main([*command, "--plot", str(tmp_path / "figures")]) == 0
    assert len(list((tmp_path / "figures").glob("*.svg"))) == 4
