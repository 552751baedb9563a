"""The comparison of architectures: equal work, every number of a run, a kill, the table and the figures."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import pytest


@pytest.fixture
def models():
    """How models are made equal."""
    return importlib.import_module("architectures_models")


@pytest.fixture
def recipe():
    """The recipe."""
    return importlib.import_module("architectures")


@pytest.fixture
def command(recipe, tmp_path):
    """Runs the smoke comparison from its command line."""
    out = tmp_path / "out.json"

    def run(*further):
        assert recipe.main(["--smoke", "--out", str(out), *further]) == 0
        return json.loads(out.read_text(encoding="utf-8"))

    run.out = out
    return run


def test_every_size_of_the_plan_costs_the_same_in_every_kind_and_on_every_point_of_the_curve(models):
    plan = importlib.import_module("architectures_plan").Plan()
    tokens = models.Tokens(plan.vocab_size)
    for size in plan.sizes:
        for num_keys in (size.num_keys, *plan.curve_keys):
            found = models.equal_configs(replace(size, num_keys=num_keys), tokens, plan.layers)
            dense = found[models.DENSE]
            assert set(found) == set(models.KINDS)
            for one in found.values():
                assert one.flops == pytest.approx(dense.flops, rel=models.TOLERANCE), (size.name, one.kind)
                assert one.head_flops == dense.head_flops
                assert one.total("flops") == one.flops + one.head_flops


@pytest.mark.parametrize("kind", ["dense", "moe", "peer", "memory", "memory+"])
def test_the_parameters_that_are_told_are_those_of_the_model(models, kind):
    size = (
        importlib.import_module("architectures_plan")
        .smoke_plan(importlib.import_module("architectures_plan").Plan())
        .sizes[0]
    )
    one = models.equal_configs(size, models.Tokens(300))[kind]
    model = models.built(one.config, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == one.total("parameters")
    assert one.total("active_parameters") <= one.total("parameters")


def test_each_kind_is_what_its_name_says(models):
    size = importlib.import_module("architectures_plan").SIZES[0]
    found = {kind: one.config for kind, one in models.equal_configs(size, models.Tokens(300)).items()}
    assert found["dense"].memory_layers == []
    assert (found["moe"].model_type, found["moe"].num_experts_per_tok) == ("mixtral", 2)
    assert (found["peer"].memory_variant, found["memory"].memory_variant) == ("peer", "values")
    assert len(found["peer"].memory_layers) == len(found["memory"].memory_layers) == 1
    plus = found["memory+"]
    assert (len(plus.memory_layers), plus.num_memory_tables, plus.memory_gated_output) == (3, 1, True)
    assert {found[kind].memory_placement for kind in models.MEMORY_KINDS} == {"replace"}


def test_what_cannot_be_made_equal_is_refused(models):
    size = importlib.import_module("architectures_plan").SIZES[0]
    with pytest.raises(ValueError, match="fewer sub-keys"):
        models.equal_configs(replace(size, num_keys=4096), models.Tokens(300))
    with pytest.raises(ValueError, match="leave it a block"):
        models.equal_configs(replace(size, blocks=3), models.Tokens(300))


def test_the_smoke_run_measures_every_kind_and_the_curve(command, tmp_path, capsys):
    values = command("--plot", str(tmp_path / "figures"))
    assert values == json.loads(command.out.read_text(encoding="utf-8"))
    runs = values["runs"]
    assert [run["kind"] for run in runs.values()] == ["dense", "moe", "peer", "memory", "memory+", "memory+"]
    assert len({run["tokens"] for run in runs.values()}) == 1
    for run in runs.values():
        assert run["flops_against_dense"] == pytest.approx(1, abs=0.02)
        assert 0 < run["loss"] < 7
        assert set(run["answer_loss"]) == set(run["recall"]["as_it_is"])
        assert all(0 < loss < 7 for loss in run["answer_loss"].values())
        assert len(run["loss_by_exposure"]) == values["identity"]["exposures"]
        asked = run["recall"]["as_it_is"]
        assert {name: metric["n"] for name, metric in asked.items()} == dict.fromkeys(asked, 16)
        assert set(asked) == {"trained_wording", "held_out_wording", "never_read"}
        assert all(set(right) <= {0, 1} for right in run["items"]["as_it_is"].values())
        has_table = run["slots"] is not None
        assert set(run["recall"]) == ({"as_it_is", "zeroed", "shuffled"} if has_table else {"as_it_is"})
        assert len(run["usage"]) == has_table
    assert [entry["slots"] for entry in values["summary"]] == [None, None, 64, 64, 64, 16]
    assert ["against_dense" in entry for entry in values["summary"]] == [False, True, True, True, True, True]
    assert values["made_with"]["versions"]["memedit"]
    assert capsys.readouterr().out.count("| d16 |") == 6
    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert drawn == ["architectures-loss.png", "architectures-recall.png", "architectures-slots.png"]
    assert all((tmp_path / "figures" / name).stat().st_size > 5000 for name in drawn)


def test_a_setting_of_one_kind_can_be_changed(command):
    plain = command("--kinds", "dense", "memory", "--no-curve")["runs"]
    command.out.unlink()
    changes = ["dense.learning_rate=0.02", "memory.memory_query_norm=none"]
    values = command("--kinds", "dense", "memory", "--no-curve", "--set", *changes)
    assert values["identity"]["training"]["dense"]["learning_rate"] == 0.02
    assert values["identity"]["training"]["memory"] == plain_training(values)["memory"]
    assert values["identity"]["layers"]["memory"]["memory_query_norm"] == "none"
    for name, run in values["runs"].items():
        assert run["loss"] != plain[name]["loss"]


def plain_training(values):
    """The settings of a training that nothing changed."""
    return importlib.import_module("architectures_plan").TRAINING


def test_a_killed_run_keeps_the_models_that_it_finished(command, recipe, monkeypatch):
    measure, done = recipe.result_of, []

    def killed(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(arguments)
        return measure(*arguments)

    monkeypatch.setattr(recipe, "result_of", killed)
    with pytest.raises(KeyboardInterrupt):
        command("--kinds", "dense", "memory", "--no-curve")
    first = json.loads(command.out.read_text(encoding="utf-8"))
    assert list(first["runs"]) == ["d16 dense seed 0"]
    monkeypatch.setattr(recipe, "result_of", measure)
    values = command("--kinds", "dense", "memory", "--no-curve")
    assert values["runs"]["d16 dense seed 0"] == first["runs"]["d16 dense seed 0"]
    assert len(values["runs"]) == 2


def test_the_same_seed_gives_the_same_model(command):
    first = command("--kinds", "memory+", "--no-curve")["runs"]
    command.out.unlink()
    again = command("--kinds", "memory+", "--no-curve")["runs"]
    for one, other in zip(first.values(), again.values(), strict=True):
        assert one["loss"] == other["loss"]
        assert one["items"] == other["items"]


def test_results_of_other_settings_are_not_mixed(command):
    command("--kinds", "dense", "--no-curve")
    with pytest.raises(SystemExit, match="another run"):
        command("--kinds", "dense", "--no-curve", "--set", "dense.learning_rate=0.001")


def test_a_change_of_no_kind_is_refused(command):
    with pytest.raises(SystemExit, match="transformer"):
        command("--set", "transformer.learning_rate=1")


def test_table_and_figures_need_the_file_alone(command, recipe, monkeypatch, capsys, tmp_path):
    command("--kinds", "dense", "memory", "--no-curve")
    capsys.readouterr()
    monkeypatch.setattr(recipe, "material_of", None)
    figures = tmp_path / "figures"
    assert recipe.main(["--table", str(command.out), "--plot", str(figures)]) == 0
    assert len(list(figures.iterdir())) == 3
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| d16 | memory")]
    assert "| 64 |" in line
    with pytest.raises(SystemExit):
        recipe.main([])


def test_a_summary_pairs_each_seed_with_the_dense_model_of_that_seed():
    from memedit.evaluation.recall import Question

    summary_of = importlib.import_module("architectures_summary").summary_of
    asked = [Question("a", ("b",), "", "one"), Question("c", ("d",), "", "two")]
    groups = ("trained_wording", "held_out_wording", "never_read")

    def run(kind, seed, right):
        summary = importlib.import_module("architectures_summary")
        return {
            **dict.fromkeys(summary.PLAIN + summary.AVERAGED, 1),
            "answer_loss": dict.fromkeys(groups, 1),
            "size": "d8",
            "kind": kind,
            "seed": seed,
            "slots": None,
            "usage": [],
            "recall": {"as_it_is": {group: {"value": sum(right) / 2} for group in groups}},
            "items": {"as_it_is": dict.fromkeys(groups, right)},
        }

    runs = [run("dense", 0, [0, 0]), run("moe", 0, [1, 0]), run("dense", 1, [1, 1]), run("moe", 1, [1, 1])]
    dense, moe = summary_of(runs, dict.fromkeys(groups, asked))
    assert "against_dense" not in dense
    assert moe["against_dense"]["held_out_wording"]["value"] == pytest.approx(0.25)
    assert moe["against_dense"]["held_out_wording"]["by_seed"] == [0.5, 0]
    assert moe["recall"]["as_it_is"]["held_out_wording"]["value"] == pytest.approx(0.75)
    assert dense["recall"]["as_it_is"]["held_out_wording"]["by_seed"] == [0, 1]
