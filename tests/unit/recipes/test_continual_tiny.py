"""The recipe of continual learning, on a model of seconds: runs, choices, what is kept, table and figure."""

from __future__ import annotations

import importlib
import itertools
import json

import pytest
import torch
from pretraining_world import COLOURS, DEEPER_MODEL, MEMORY, write_corpus

from memedit.modeling.opening import open_model
from memedit.pretraining.build import pretrain
from memedit.pretraining.settings import PhaseSettings, PretrainingSettings

NAMES = "Ostra Velm Quill Tarn Bexley Norun Saffi Ulmet Drava Pirin Yost Zell Kamor Luth Ebral Fisk Gond Hame"
SPLITS = ("core", "slots-dev", "slots-test", "inject-dev", "inject-test")
DENSE = PhaseSettings("dense", trains="dense", exposures=60, batch_rows=8, warmup_steps=2, learning_rate=5e-3)
VALUES = PhaseSettings(
    "memory",
    trains="values",
    splits=("slots-dev", "slots-test"),
    mixed_splits=("core",),
    mixed_share=0.4,
    exposures=50,
    batch_rows=8,
    full_loss_every=0,
    memory=MEMORY,
    routing="fitted",
    value_rate=0.3,
    warmup_steps=2,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus file and a model whose table holds two of its splits."""
    folder = tmp_path_factory.mktemp("continual")
    facts = [
        (f"{first} {split[-4:]}", COLOURS[(5 * index + index // 7) % 6], split)
        for index, (split, first) in enumerate(itertools.product(SPLITS, NAMES.split()))
    ]
    corpus = write_corpus(folder / "corpus.jsonl.gz", facts)
    settings = PretrainingSettings(DEEPER_MODEL, (DENSE, VALUES), vocab_size=320, corpus=str(corpus))
    pretrain(settings, folder / "seed-0")
    return corpus, folder / "seed-0"


@pytest.fixture
def recipe():
    return importlib.import_module("continual_tiny")


@pytest.fixture
def command(recipe, made, tmp_path):
    """Runs the recipe from its command line."""
    corpus, model = made
    out = tmp_path / "out.json"

    def run(*further):
        arguments = ["--out", str(out), "--dev", str(model), "--models", str(model)]
        assert recipe.main([*arguments, "--corpus", str(corpus), "--smoke", *further]) == 0
        return json.loads(out.read_text(encoding="utf-8"))

    run.out = out
    return run


def test_every_method_is_tuned_taught_in_one_batch_and_in_a_sequence(command, recipe, tmp_path, capsys):
    values = command("--plot", str(tmp_path / "figure.svg"))
    stages = values["summary"]["stages"]
    assert list(stages) == ["one batch", "1 batches", "2 batches"]
    for stage, by_method in stages.items():
        assert list(by_method) == ["memory", "tfidf", "all", "full", "lora"], stage
        for one in by_method.values():
            assert one["new"]["n"] == 2 * {"one batch": 3, "1 batches": 1, "2 batches": 2}[stage]
            assert one["old"]["n"] == 6
            assert 0 <= one["forgotten"]["low"] <= one["forgotten"]["value"] <= one["forgotten"]["high"] <= 1
    assert set(values["summary"]["targets"]) == set(stages)
    assert values["made_with"]["versions"]["memedit"]
    assert set(values["before"]["seed-0"]) == {"old", "core"}
    assert (tmp_path / "figure.svg").read_text(encoding="utf-8").count("<path") > 10
    printed = capsys.readouterr().out
    assert "| full fine-tuning |" in printed
    # What is done is not done again, and the table needs the file alone.
    runs = importlib.import_module("continual_tiny_runs")
    assert runs is not None
    recipe.one_batch = recipe.sequence = None
    assert command() == {**values, "made_with": command()["made_with"]}
    assert recipe.main(["--out", str(command.out), "--table"]) == 0


def test_a_killed_run_keeps_what_it_finished(command, recipe, monkeypatch):
    done, teach = [], recipe.one_batch

    def killed(*arguments, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments)
        return teach(*arguments, **options)

    monkeypatch.setattr(recipe, "one_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        command()
    kept = json.loads(command.out.read_text(encoding="utf-8"))["runs"]
    assert sum("one batch" in key for key in kept) == 2


def test_without_models_it_says_what_is_missing(recipe, tmp_path, capsys):
    with pytest.raises(SystemExit):
        recipe.main(["--out", str(tmp_path / "out.json")])
    assert "pretrain_tiny.py" in capsys.readouterr().err


@pytest.fixture
def rows_of(made, recipe):
    """A fresh model and the rows of three facts."""
    from memedit.baselines.teaching import Teaching

    methods, measures = (
        importlib.import_module(f"continual_tiny_{name}") for name in ("methods", "measures")
    )
    corpus = importlib.import_module("memedit.pretraining.corpus").read_corpus(made[0])
    opened = open_model(str(made[1]))
    facts = tuple(measures.to_teach(fact) for fact in corpus.of(["inject-test"])[:3])
    return opened, Teaching("full", opened, facts, {}, 0, editing=methods.ROWS).rows()


def moved_slots(opened, rows, num_slots, **options):
    """Teach a pass; the slots whose rows are others then."""
    selected = importlib.import_module("continual_tiny_rows").SelectedRows(opened, 1.0, num_slots, **options)
    before = selected.values.clone()
    passes = []
    selected.teach(rows, 1, 0, lambda number: bool(passes.append(number)))
    assert passes == [1]
    return selected, (selected.values != before).any(-1)


def test_a_step_moves_at_most_t_rows_and_nothing_else(rows_of):
    opened, rows = rows_of
    others = {name: part.clone() for name, part in opened.model.state_dict().items() if "table" not in name}
    _, moved = moved_slots(opened, rows, 4)
    assert 0 < int(moved.sum()) <= 4
    for name, part in others.items():
        assert torch.equal(part, opened.model.state_dict()[name]), name
    _, every = moved_slots(opened, rows, 0)
    assert int(every.sum()) > 4


@pytest.mark.parametrize(
    ("method", "settings", "least"),
    [
        # A table of 256 slots gives a subject few that are its own.
        ("memory", {"rate": 1.5, "slots": 16}, 0.2),
        ("tfidf", {"rate": 200.0, "slots": 100, "passes": 100}, 0.9),
        ("all", {"rate": 200.0, "passes": 100}, 0.9),
        ("full", {"rate": 3e-3, "passes": 100}, 0.9),
        ("lora", {"rate": 1e-2, "rank": 8, "passes": 100}, 0.9),
    ],
)
def test_each_way_of_teaching_learns_what_it_is_taught(made, recipe, method, settings, least):
    learning, measures, recall = (
        importlib.import_module(name)
        for name in ("continual_tiny_methods", "continual_tiny_measures", "memedit.pretraining.recall")
    )
    corpus = importlib.import_module("memedit.pretraining.corpus").read_corpus(made[0])
    facts = corpus.of(["inject-test"])[:2]
    asked = recall.corpus_questions(facts, recall.TRAINED_WORDING)
    with learning.learner(method, made[1], settings, 0) as taught:
        before = measures.share(measures.answers(taught.model, taught.tokenizer, asked))
        taught.learn([measures.to_teach(fact) for fact in facts], lambda number: False)
        after = measures.share(measures.answers(taught.model, taught.tokenizer, asked))
    assert before == 0
    assert after >= least


def test_guarded_slots_are_left_for_others_where_there_are_any(rows_of):
    opened, rows = rows_of
    first, moved = moved_slots(opened, rows, 4, guarded=True)
    before = first.values.clone()
    first.teach(rows, 1, 0, lambda number: False)
    again = (first.values != before).any(-1)
    assert int(again.sum()) > 0
    assert not (again & moved).any()


def test_the_choice_is_the_least_forgetting_of_those_that_learn_enough(recipe):
    def run(name, *points):
        return {"name": name, "points": [{"new": new, "forgotten": lost} for new, lost in points]}

    few, enough = run("few", (0.5, 0.0), (0.6, 0.01)), run("enough", (0.9, 0.1), (0.95, 0.2))
    run_, point = recipe.best([few, enough, run("more", (0.99, 0.3))])
    assert (run_["name"], point["forgotten"]) == ("enough", 0.1)
    assert recipe.best([few])[1]["new"] == 0.6


def test_the_front_leaves_out_what_another_beats(recipe):
    pareto = importlib.import_module("continual_tiny_figure").pareto
    assert pareto([(0.5, 0.1), (0.9, 0.2), (0.8, 0.3), (0.4, 0.1)]) == [(0.5, 0.1), (0.9, 0.2)]


def test_forgetting_counts_only_what_was_right_and_seeds_are_put_together(recipe):
    measures = importlib.import_module("continual_tiny_measures")
    before, after = [("a", 1), ("a", 0), ("b", 1)], [("a", 0), ("a", 1), ("b", 1)]
    lost = measures.forgotten(before, after)
    assert lost == [("a", 1), ("b", 0)]
    found = measures.pooled([lost, [("a", 0), ("b", 0)]])
    assert (found["value"], found["n"], found["facts"], found["by_seed"]) == (0.25, 4, 2, [0.5, 0.0])
    assert found["low"] <= 0.25 <= found["high"]
