"""A whole comparison: parts that are kept, parts that fail, tuning that never sees what is reported."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import small_world

from memedit.baselines import work as work_module
from memedit.baselines.comparing import PartFailed, Request, compare, read_settings, write_settings
from memedit.baselines.folder import Plan
from memedit.baselines.measuring import Before, Look, Task, measure_after, measure_before, quick_look
from memedit.baselines.methods import METHODS, MethodInfo
from memedit.errors import UsageError
from memedit.evaluation.respondent import ModelRespondent
from memedit.facts import Fact, Probe
from memedit.progress import NULL_PROGRESS


@pytest.fixture
def launch(work):
    """Does the parts in this process, and keeps their words; `broken` parts fail."""

    def started(words):
        started.words.append(" ".join(words))
        if " ".join(words) in started.broken:
            return False
        fresh = replace(work)
        fresh.do(words)
        return True

    started.words, started.broken = [], set()
    return started


@pytest.fixture
def compared(work, plan, settings, launch):
    """Run a comparison of the small world."""

    def run(*methods, seeds=1, tune=False, said=lambda _: None, **changes):
        chosen = {} if tune else {name: settings[name] for name in methods}
        request = Request(replace(plan, **changes), methods, seeds, tune, chosen)
        return compare(request, work.folder, launch, editing=work.editing, said=said)

    return run


def test_a_comparison_is_json_and_says_what_was_measured(compared, plan):
    found = compared("memory", "locft", "rag", seeds=2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found["methods"]) == ["memory", "locft", "rag"]
    assert found["facts"] == {"reported": 5, "known_before": 0, "taught": 5, "development": 3}
    for method in found["methods"].values():
        learned = method["metrics"]["trained_wording"]
        assert learned["n"] == 2 * len(plan.reported)
        assert learned["low"] <= learned["value"] <= learned["high"]
        assert learned["value"] == pytest.approx(sum(learned["by_seed"]) / 2)
        assert 0.5 < method["metrics"]["perplexity_ratio"]["value"] < 100
        assert method["costs"]["peak_memory_mb"]["value"] > 10
        assert len(method["trajectories"]) == 2
    metrics = {name: method["metrics"] for name, method in found["methods"].items()}
    assert metrics["memory"]["retained"]["value"] > metrics["locft"]["retained"]["value"]
    assert metrics["rag"]["perplexity_ratio"]["value"] == 1.0
    assert found["before"]["trained_wording"]["value"] == 0.0
    assert found["equal_learning"]["not_reached"] == ["rag"]
    assert 0 < found["equal_learning"]["common_level"] <= 1


def test_what_is_done_is_not_done_again(compared, launch):
    first = compared("rag", "locft")
    assert launch.words == ["before reported", "run rag 0", "run locft 0"]
    launch.words.clear()
    again = compared("rag", "locft", seeds=2)
    assert launch.words == ["run rag 1", "run locft 1"]
    assert again["methods"]["locft"]["trajectories"][0] == first["methods"]["locft"]["trajectories"][0]


def test_after_an_interruption_only_the_rest_is_done(compared, launch, work):
    def interrupted(words):
        if words[0] == "run" and words[1] == "rag":
            raise KeyboardInterrupt
        return launch(words)

    request_done = work.folder.run("locft", 0)
    with pytest.raises(KeyboardInterrupt):
        compare(
            Request(
                work.plan,
                ["locft", "rag"],
                1,
                tune=False,
                settings={"locft": work.folder.settings()["locft"]},
            ),
            work.folder,
            interrupted,
            editing=work.editing,
        )
    assert request_done.exists()
    launch.words.clear()
    compared("locft", "rag")
    assert launch.words == ["run rag 0"]


def test_other_facts_or_settings_are_measured_anew(compared, launch, plan, work):
    compared("rag")
    launch.words.clear()
    compared("rag", reported=plan.reported[:4])
    assert launch.words == ["before reported", "run rag 0"]
    launch.words.clear()
    work.editing = replace(work.editing, num_contexts=1)
    compared("rag", reported=plan.reported[:4])
    assert launch.words == ["before reported", "run rag 0"]


def test_a_damaged_result_is_measured_anew(compared, launch, work):
    compared("rag")
    path = work.folder.run("rag", 0)
    path.write_text(path.read_text()[:50])
    launch.words.clear()
    compared("rag")
    assert launch.words == ["run rag 0"]


def test_a_method_that_fails_costs_only_itself(compared, launch):
    launch.broken = {"run locft 0"}
    said = []
    found = compared("locft", "rag", said=said.append)
    assert list(found["methods"]) == ["rag"]
    assert found["failed"] == ["run locft 0"]
    assert "run locft 0: failed" in said
    launch.broken = {"run rag 0", "run locft 0"}
    with pytest.raises(PartFailed, match="no run"):
        compared("locft", "rag", look_facts=9)


def test_nothing_goes_on_without_the_unedited_model(compared, launch):
    launch.broken = {"before reported"}
    with pytest.raises(PartFailed, match="before reported"):
        compared("rag")
    assert launch.words == ["before reported"]


@pytest.fixture
def small_grid(monkeypatch):
    """Two settings of one method: one that teaches and one that cannot."""
    info = METHODS["locft"]
    defaults = {**info.defaults, "epochs": 8.0, "batch_rows": 8.0, "learning_rate": 1e-9}
    grid = {"learning_rate": (1e-9, 1e-2)}
    monkeypatch.setitem(METHODS, "locft", MethodInfo(info.help, info.module, defaults, grid))


def test_tuning_finds_what_teaches_and_sees_no_reported_fact(compared, plan, monkeypatch, small_grid, work):
    taught, texts = [], []
    original = work_module.taught

    def watched(teaching):
        taught.append((teaching.after_epoch is not None, teaching.facts))
        return original(teaching)

    def asked(self, prompts, **options):
        texts.append((len(taught) - 1, list(prompts)))
        return answer(self, prompts, **options)

    answer = ModelRespondent.answer
    monkeypatch.setattr(work_module, "taught", watched)
    monkeypatch.setattr(ModelRespondent, "answer", asked)
    found = compared("locft", tune=True, tune_runs=2)
    assert found["methods"]["locft"]["settings"]["learning_rate"] == 1e-2
    assert len(found["tuning"]["locft"]["trials"]) == 2
    tuned = [facts for is_run, facts in taught if not is_run]
    assert len(tuned) == 2
    reported = {fact.id for fact in plan.reported}
    assert all(reported.isdisjoint(fact.id for fact in facts) for facts in tuned)
    # While settings are tried, neither a reported subject nor a reported well-known fact is asked about.
    while_tuning = {prompt for number, prompts in texts if number in (0, 1) for prompt in prompts}
    known = Task(plan.reported, "reported", "").retention()
    task, _ = work.before("development")
    assert not while_tuning & {question.prompt for question in known}
    assert not any(fact.subject in prompt for fact in plan.reported for prompt in while_tuning)
    assert while_tuning & {fact.prompt for fact in task.facts}


def test_tuning_is_kept_training_by_training(compared, launch, small_grid, work):
    compared("locft", tune=True, tune_runs=2)
    trials = {path: path.stat().st_mtime_ns for path in (work.folder.path / "tuning" / "locft").iterdir()}
    assert len(trials) == 2
    work.folder.tuned("locft").unlink()
    launch.words.clear()
    compared("locft", tune=True, tune_runs=2)
    assert launch.words == ["tune locft"]
    assert {path: path.stat().st_mtime_ns for path in trials} == trials


def test_given_settings_are_not_searched(work, plan, settings, launch):
    request = Request(plan, ["rag"], 1, tune=True, settings={"rag": settings["rag"]})
    found = compare(request, work.folder, launch, editing=work.editing)
    assert "tune rag" not in launch.words
    assert found["methods"]["rag"]["settings"] == settings["rag"]


def test_settings_are_written_and_read(tmp_path, settings):
    path = tmp_path / "tuned.json"
    write_settings(path, [(name, {"settings": one}) for name, one in settings.items()])
    assert read_settings(path) == settings


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "Expecting"),
        ("[]", "expected an object"),
        ('{"lorra": {}}', "expected methods"),
        ('{"lora": 3}', "lora: expected an object"),
        ('{"lora": {"ranks": 3}}', "did you mean 'rank'"),
    ],
)
def test_a_wrong_settings_file_is_refused(tmp_path, content, said):
    path = tmp_path / "tuned.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=said):
        read_settings(path)


def test_a_plan_comes_back(plan):
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert replace(again, reported=(), development=()) == replace(plan, reported=(), development=())
    assert [fact.to_json() for fact in again.reported] == [fact.to_json() for fact in plan.reported]


def with_neighbours(fact: Fact) -> Fact:
    neighbour = Probe(small_world.PROMPT.format("Borvia"), small_world.capital(0), kind="neighborhood")
    return replace(fact, replaces="Dova", probes=replace(fact.probes, locality=(neighbour,)))


def test_neighbours_are_compared_as_counterfact_does(work, plan, settings):
    opened, facts = work.opened, tuple(map(with_neighbours, plan.reported))
    task = Task(facts, "reported", "")
    respondent = ModelRespondent(opened.model, opened.tokenizer)
    before = measure_before(opened, respondent, task, NULL_PROGRESS)
    again = Before.from_json(json.loads(json.dumps(before.to_json())))
    values, perplexity = measure_after(opened, respondent, task, again, NULL_PROGRESS)
    assert perplexity is None
    assert {value for _, value in values["locality_agreement"]} == {1.0}
    assert {value for _, value in values["leak"]} == {0.0}
    assert {value for _, value in values["retained"]} == {1.0}
    # Where the taught answer is the neighbour's own, there is nothing to compare.
    assert len(values["neighborhood_score"]) == sum(fact.target != small_world.capital(0) for fact in facts)
    found = summary_of(again, values)
    parts = [found[name]["value"] for name in ("efficacy_score", "paraphrase_score", "neighborhood_score")]
    mean = 0.0 if 0 in parts else 3 / math.fsum(1 / part for part in parts)
    assert found["editing_score"]["value"] == pytest.approx(mean)


def test_a_look_asks_neighbours_only_where_it_is_told_to(work, plan):
    opened, facts = work.opened, tuple(map(with_neighbours, plan.reported))
    respondent = ModelRespondent(opened.model, opened.tokenizer)
    before = measure_before(opened, respondent, Task(facts, "reported", ""), NULL_PROGRESS)
    look = quick_look(respondent, facts, before, neighbours=True)
    assert (look.trained, look.held_out, look.lost, look.local) == (0.0, 0.0, 0.0, 1.0)
    assert look.counts[2] > 0
    assert 0 < look.score() < 0.5
    assert math.isnan(quick_look(respondent, facts, before).local)
    # The harmonic mean of what is there: 49 of 98 count as 50 of 100.
    assert Look(1.0, 49 / 98, 0.0, math.nan, (98, 98, 0)).score() == pytest.approx(2 / (1 / 0.5 + 1 / 0.99))
    assert Look(1.0, 0.5, 0.5, 0.0, (98, 98, 2)).score() == pytest.approx(3 / (1 / 0.5 + 1 / 0.5 + 1 / 0.25))


def test_what_learns_beats_what_does_nothing_where_neighbours_are_few():
    does_nothing = Look(0.0, 1 / 46, 0.05, 6 / 7, (46, 73, 7))
    learns = Look(1.0, 39 / 46, 0.37, 0.0, (46, 73, 7))
    learns_and_keeps = Look(1.0, 39 / 46, 0.05, 5 / 7, (46, 73, 7))
    assert does_nothing.score() < learns.score() < learns_and_keeps.score()


def summary_of(before, values):
    from memedit.baselines.summary import summarise

    run = {
        "values": values,
        "nlls": None,
        "trajectory": [],
        "training_seconds": 1.0,
        "training_cpu_seconds": 1.0,
        "num_facts": 5,
        "peak_memory_bytes": 2,
        "resident_before_bytes": 1,
        "ship_bytes": 3,
        "settings": {},
        "seed": 0,
    }
    return summarise(before, {"full": [run]})["methods"]["full"]["metrics"]
