"""The ablation recipe on the small world: variants, results that are kept, tables, and the figure."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import pytest
import small_world

TEXT = "A short walk by the river.\n\nThe bridge was closed for the winter."


@pytest.fixture
def recipe(monkeypatch):
    """The recipe, with the small world's knowledge and settings."""
    found = importlib.import_module("ablations")
    measures = importlib.import_module("lifelong_measures")
    monkeypatch.setattr(measures, "well_known_facts", small_world.known_facts)
    for module in (measures, importlib.import_module("ablation_measures")):
        monkeypatch.setattr(module, "general_text", lambda text: TEXT)
    monkeypatch.setattr(found, "EditingSettings", small_world.world_settings)
    monkeypatch.setattr(found, "open_model", lambda name: small_world.opened_world())
    return found


@pytest.fixture
def command(recipe, tmp_path):
    """Runs the recipe from its command line, on a facts file of the new lands."""
    facts, known = tmp_path / "facts.jsonl", tmp_path / "known.jsonl"
    for path, told in ((facts, small_world.new_facts()), (known, small_world.known_facts()[:3])):
        path.write_text("\n".join(json.dumps(fact.to_json()) for fact in told), encoding="utf-8")
    out = tmp_path / "out.json"

    def run(*further):
        arguments = [str(facts), "--known", str(known), "--out", str(out), "--smoke", *further]
        assert recipe.main(arguments) == 0
        return json.loads(out.read_text(encoding="utf-8"))

    run.out = out
    return run


def test_the_smoke_run_measures_each_variant_and_its_difference_to_the_default(command, capsys):
    values = command()
    edits = values["edits"]
    assert list(edits) == ["default", "contrast=0", "ranking=tfidf"]
    default = edits["default"]
    counts = {name: metric["n"] for name, metric in default["metrics"].items()}
    assert {
        name: counts[name] for name in ("trained_wording", "held_out_wording", "after_unseen_sentence")
    } == {
        "trained_wording": 4,
        "held_out_wording": 4,
        "after_unseen_sentence": 4,
    }
    assert counts["leak"] == 12
    assert counts["retained"] > 10
    assert counts["perplexity_ratio"] == 2
    assert default["metrics"]["trained_wording"]["value"] >= 0.5
    assert default["costs"]["row_reads_per_fact"] >= 6  # six passes at least, of every wording
    assert "against_default" not in default
    for name in ("contrast=0", "ranking=tfidf"):
        one = edits[name]
        for measure, paired in one["against_default"].items():
            plain = one["metrics"][measure]["value"] - default["metrics"][measure]["value"]
            assert paired["value"] == pytest.approx(plain, abs=1e-9), measure
            assert paired["low"] <= paired["value"] <= paired["high"]
            assert paired["n"] == one["metrics"][measure]["n"]
        assert set(one["against_default"]) == set(one["metrics"]) - {"perplexity_ratio"}
    assert edits["ranking=tfidf"]["settings"]["selection"]["ranking"] == "tfidf"
    assert default["made_with"]["versions"]["memedit"]
    assert "ranking=tfidf" in capsys.readouterr().out


def test_a_finished_variant_is_not_run_again(command, recipe, monkeypatch, tmp_path):
    values = command("--only", "contrast=0")
    monkeypatch.setattr(recipe, "measure_edit", None)  # would be called for what is missing
    again = command("--only", "contrast=0", "--plot", str(tmp_path / "figure.svg"))
    assert again == values
    assert (tmp_path / "figure.svg").read_text(encoding="utf-8").count("<path") > 10


def test_a_killed_run_keeps_the_variants_that_it_finished(command, recipe, monkeypatch):
    measure, done = recipe.measure_edit, []

    def killed(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(arguments)
        return measure(*arguments)

    monkeypatch.setattr(recipe, "measure_edit", killed)
    with pytest.raises(KeyboardInterrupt):
        command()
    first = json.loads(command.out.read_text(encoding="utf-8"))
    assert list(first["edits"]) == ["default"]
    monkeypatch.setattr(recipe, "measure_edit", measure)
    assert command()["edits"]["default"] == first["edits"]["default"]


def test_results_of_another_default_or_other_knowledge_are_not_mixed(command, recipe, monkeypatch):
    command("--routing-only")
    changed = small_world.world_settings(margin=0.75)
    monkeypatch.setattr(recipe, "EditingSettings", lambda: changed)
    with pytest.raises(SystemExit, match="another run"):
        command("--routing-only")


def test_the_table_is_printed_from_the_file_alone(command, recipe, monkeypatch, capsys):
    values = command("--routing-only", "--only", "contrast=0")
    capsys.readouterr()
    monkeypatch.setattr(recipe, "open_model", None)
    assert recipe.main(["--table", str(command.out)]) == 0
    printed = capsys.readouterr().out
    assert "**Edits" not in printed
    found = values["gates"]["contrast=0"]["metrics"]["held_out_wording"]
    (line,) = [line for line in printed.splitlines() if line.startswith("| contrast=0 |")]
    assert f"{100 * found['value']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]" in line
    assert "held_out_wording 4" in printed
    with pytest.raises(SystemExit):
        recipe.main(["--out", str(command.out)])


def test_an_unknown_variant_is_refused_by_name(command):
    with pytest.raises(SystemExit, match="contrast=9"):
        command("--only", "contrast=9")


def test_each_variant_changes_one_setting():
    from dataclasses import asdict

    from memedit.editing.plan import EditingSettings

    found = importlib.import_module("ablation_variants").variants(EditingSettings())
    names = [variant.name for variant in found]
    assert len(set(names)) == len(names) >= 20

    def flat(settings):
        told = asdict(settings)
        return {
            **told.pop("selection"),
            **told.pop("training"),
            **told,
        }

    default = flat(found[0].settings)
    for variant in found[1:]:
        changed = [name for name, value in flat(variant.settings).items() if value != default[name]]
        assert len(changed) == 1, variant.name
        assert variant.name.startswith(changed[0]), variant.name


def test_a_change_to_what_is_the_default_already_is_left_out():
    from memedit.editing.plan import EditingSettings

    variants = importlib.import_module("ablation_variants").variants
    default = replace(EditingSettings(), num_questions=1)
    assert "num_questions=1" not in [variant.name for variant in variants(default)]
