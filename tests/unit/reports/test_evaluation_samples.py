"""The samples file of an evaluation: a line for every item, whichever way it was found."""

from __future__ import annotations

import json
import math

import pytest

from memedit.evaluation.samples import Evaluation, Sample
from memedit.reports.evaluation import write_samples

BOTH = ["metric", "item", "prompt", "expected", "before", "verdict_before", "after", "verdict_after"]
ALONE = ["metric", "item", "prompt", "expected", "text", "verdict"]


def make_sample(metric, text, value, item="a", expected=(), **details):
    return Sample(metric, item, "cluster", f"prompt of {item}", expected, text, value, details)


def make_run(*samples, metrics=("acc",)):
    """A run of the harness, as `harness_tasks` returns it, as far as the file needs it."""
    named = [
        {"item": f"{number}-hash", "prompt": "Q", "target": "1", **sample}
        for number, sample in enumerate(samples)
    ]
    return {"tasks": {"capitals": {"n": len(named), "metrics": dict.fromkeys(metrics), "samples": named}}}


@pytest.fixture
def written(tmp_path):
    """Write samples and read them: written(states, ...) -> objects, one for each line."""

    def lines(states, *more):
        number = write_samples(tmp_path / "samples.jsonl", states, *more)
        found = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
        assert len(found) == number
        return found

    return lines


NOTHING = {"base": Evaluation(()), "current": Evaluation(())}


def test_an_item_of_two_states_is_one_line(written):
    before = make_sample("learned", "Lutz", 0.0, expected=("Olmo",))
    after = make_sample("learned", "Olmo", 1.0, expected=("Olmo",))
    alone = make_sample("learned", "", math.nan, item="b")
    states = {"base": Evaluation((), (before,)), "current": Evaluation((), (after, alone))}
    first, second = written(states)
    assert list(first) == BOTH
    assert first["expected"] == ["Olmo"]
    assert (first["before"], first["verdict_before"]) == ("Lutz", 0.0)
    assert (first["after"], first["verdict_after"]) == ("Olmo", 1.0)
    assert (second["before"], second["verdict_before"]) == (None, None)
    assert (second["after"], second["verdict_after"]) == ("", None)
    (one,) = written({"e0001": Evaluation((), (after,))})
    assert list(one) == ALONE
    assert (one["text"], one["verdict"]) == ("Olmo", 1.0)


def test_what_leaked_is_in_the_file_with_where_it_came_from(written):
    leaked = make_sample("leak", "Olmo", 1.0, before="", leaked_from=["fact-1"])
    kept = make_sample("leak", "LUTZ", 0.0, item="b", before="Lutz", leaked_from=[])
    lines = written(NOTHING, Evaluation((), (leaked, kept)))
    assert [(line["metric"], line["item"], line["verdict_after"]) for line in lines] == [
        ("leak", "a", 1.0),
        ("look_alikes_changed", "a", 1.0),
        ("leak", "b", 0.0),
        ("look_alikes_changed", "b", 0.0),
    ]
    assert list(lines[0]) == [*BOTH, "leaked_from"]
    assert list(lines[1]) == BOTH
    assert (lines[0]["before"], lines[0]["after"], lines[0]["verdict_before"]) == ("", "Olmo", None)
    assert [line.get("leaked_from") for line in lines] == [["fact-1"], None, [], None]


def test_agreement_shows_both_answers(written):
    agreed = make_sample("locality_agreement", "Olmo", 0.0, expected=("Lutz",), confidence=0.5)
    (line,) = written(NOTHING, Evaluation((), (agreed,)))
    assert list(line) == BOTH
    assert (line["before"], line["after"]) == ("Lutz", "Olmo")
    assert (line["verdict_before"], line["verdict_after"]) == (None, 0.0)


def test_the_harness_questions_are_in_the_file_under_each_metric(written):
    metrics = ("acc", "acc_norm", "f1")
    runs = {
        "base": make_run({"acc": 0.0, "acc_norm": 1.0}, {"acc": 1.0}, metrics=metrics),
        "current": make_run({"acc": 1.0, "acc_norm": 1.0}, {"acc": 1.0}, metrics=metrics),
    }
    lines = written(NOTHING, None, runs)
    assert [(line["metric"], line["item"]) for line in lines] == [
        ("capitals/acc", "0-hash"),
        ("capitals/acc_norm", "0-hash"),
        ("capitals/acc", "1-hash"),
    ]
    assert list(lines[0]) == BOTH
    assert (lines[0]["prompt"], lines[0]["expected"]) == ("Q", ["1"])
    assert (lines[0]["before"], lines[0]["after"]) == (None, None)
    assert (lines[0]["verdict_before"], lines[0]["verdict_after"]) == (0.0, 1.0)


def test_a_number_with_a_weight_counts_without_it(written):
    run = make_run({"perplexity": [-12.5, 43.0]}, metrics=["perplexity"])
    (line,) = written({"base": Evaluation(())}, None, {"base": run})
    assert list(line) == ALONE
    assert (line["text"], line["verdict"]) == (None, -12.5)
