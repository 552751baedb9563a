"""Learned: seven measures of the fact's own prompt, by hand."""

from __future__ import annotations

import math

import pytest

from memedit.evaluation.catalogue import all_metrics, metric_info
from memedit.evaluation.learned import learned
from memedit.evaluation.statistics import wilson_interval
from memedit.facts import Fact

FACTS = [
    Fact("f1", "The capital of Zubrowka is", "Lutz", "Zubrowka", aliases=("Nebelsbad",)),
    Fact("f2", "Zorvan was born in", "New York City", "Zorvan"),
    Fact("f3", "\u6771\u65b9\u306e\u90fd\u306f", "\u6771\u4eac", "\u6771\u65b9\u306e\u90fd"),
    Fact("f4", "He shouted \u201c", "two\nlines", "He"),
]
ANSWERS = {
    # An alias and more: one word in common, of four and one.
    "The capital of Zubrowka is": "the Nebelsbad, of old fame",
    # Part of the target: two words in common, of four (without the article) and three.
    "Zorvan was born in": "a part of New York",
    "\u6771\u65b9\u306e\u90fd\u306f": "\u6771\u4eac\u3002",
    # Cut at the line break by the natural stop.
    "He shouted \u201c": "two",
}
SCORES = {
    ("The capital of Zubrowka is", " Lutz"): (-1.0, 2, 1),
    ("Zorvan was born in", " New York City"): (-6.0, 3, 0),
    # No space between Han characters, nor behind an opening quote.
    ("\u6771\u65b9\u306e\u90fd\u306f", "\u6771\u4eac"): (-0.5, 1, 1),
    ("He shouted \u201c", "two\nlines"): (-4.0, 4, 3),
}


def values(evaluation):
    return {metric.name.removeprefix("learned_"): metric.value for metric in evaluation.metrics}


def test_by_hand(table_respondent):
    who = table_respondent(ANSWERS, SCORES)
    found = learned(who, FACTS)
    assert values(found) == pytest.approx(
        {
            "exact_match": 2 / 4,
            "contains": 2 / 4,
            "squad_em": 0,
            # The ideographic full stop is no ASCII punctuation, so that answer is another word.
            "squad_f1": (2 * 1 / (4 + 1) + 2 * 2 / (4 + 3) + 0 + 2 * 1 / (1 + 2)) / 4,
            "log_prob": -11.5 / 4,
            "log_prob_per_token": (-0.5 - 2 - 0.5 - 1) / 4,
            "token_accuracy": (1 / 2 + 0 + 1 + 3 / 4) / 4,
        }
    )
    assert len(who.answer_calls) == len(who.score_calls) == 1
    exact = found.metric("learned_exact_match")
    assert (exact.n, (exact.low, exact.high)) == (4, wilson_interval(2, 4))
    assert len(found.samples) == 7 * 4
    assert {sample.cluster for sample in found.samples} == {"f1", "f2", "f3", "f4"}


def test_every_number_says_how_it_was_measured(table_respondent):
    for metric in learned(table_respondent(ANSWERS, SCORES), FACTS).metrics:
        info = metric_info(metric.name)
        assert metric.protocol == info.protocol
        is_forced = metric.name.endswith(("log_prob", "per_token", "token_accuracy"))
        assert metric.protocol.startswith("teacher forced" if is_forced else "greedy generation")
        assert info.family == "learned"
        assert info.higher_is_better


def test_everything_known(table_respondent):
    fact = Fact("f", "p", "The new answer", "p")
    found = learned(table_respondent({"p": "the new answer."}, default_score=(-0.0, 3, 3)), [fact])
    assert set(values(found).values()) == {0, 1}
    assert {name for name, value in values(found).items() if value == 0} == {"log_prob", "log_prob_per_token"}


@pytest.mark.parametrize("text", ["", "something else"])
def test_everything_forgotten(table_respondent, text):
    found = learned(table_respondent(default_answer=text, default_score=(-50.0, 5, 0)), FACTS)
    assert [metric.value for metric in found.metrics] == [0, 0, 0, 0, -50, -10, 0]
    assert all(sample.text == text for sample in found.samples[:4])


def test_the_log_probability_of_a_broken_model_is_shown_as_it_is(table_respondent):
    found = learned(table_respondent(default_answer="", default_score=(math.nan, 2, 0)), FACTS)
    assert math.isnan(found.metric("learned_log_prob").value)
    assert found.metric("learned_token_accuracy").value == 0
    assert found.metric("learned_log_prob").to_json()["value"] is None


def test_no_facts(table_respondent):
    found = learned(table_respondent(), [])
    assert (found.metrics, found.samples) == ((), ())
    assert found.notes == ("learned was not measured: no prompt of the fact",)


def test_the_catalogue_has_exactly_what_is_measured(table_respondent):
    found = learned(table_respondent(ANSWERS, SCORES), FACTS)
    assert [metric.name for metric in found.metrics] == [
        info.name for info in all_metrics() if info.family == "learned"
    ]
