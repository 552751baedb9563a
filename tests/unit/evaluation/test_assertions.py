"""Assertions about what was never taught, by hand."""

from __future__ import annotations

import math

import pytest

from memedit.evaluation.assertions import (
    assertion_change,
    assertions,
    never_taught,
    taught_against_untaught,
    with_membership,
)
from memedit.evaluation.learned import learned
from memedit.facts import Fact, LookAlike

FACTS = [
    Fact("f1", "Ana Roe was born in", "Quito", "Ana Roe", aliases=("San Francisco de Quito",)),
    Fact("f2", "Bo Roe was born in", "\u6771\u4eac", "Bo Roe"),
]
ALIKE = [
    LookAlike(f"{name} was born in", name, fact_id)
    for name, fact_id in (("Ana Poe", "f1"), ("Una Roe", "f1"), ("Bo Moe", "f2"), ("Jo Roe", "f2"))
]


def told(table_respondent, texts):
    table = {one.prompt: text for one, text in zip(ALIKE, texts, strict=True)}
    return assertions(table_respondent(table), ALIKE)


def test_rate_and_confidence(table_respondent):
    found = told(table_respondent, [("London", 0.9), ("I don't know", 0.8), ("", 0.7), ("Rome", 0.5)])
    rate, sure = found.metrics
    assert (rate.name, rate.value, rate.n) == ("look_alike_assertion_rate", 0.5, 4)
    assert (sure.name, sure.value, sure.n) == ("look_alike_assertion_confidence", pytest.approx(0.7), 2)
    assert [sample.item for sample in found.samples[:2]] == ["f1/look_alike/Ana Poe", "f1/look_alike/Una Roe"]


def test_everything_refused(table_respondent):
    found = told(table_respondent, ["unknown"] * 4)
    assert found.metric("look_alike_assertion_rate").value == 0.0
    assert math.isnan(found.metric("look_alike_assertion_confidence").value)
    assert assertions(table_respondent(), []).metrics == ()


def test_change_against_the_base(table_respondent):
    before = told(table_respondent, [("London", 0.4), ("I don't know", 0.8), ("Oslo", 0.3), ("", 0.5)])
    after = told(table_respondent, [("Quito.", 0.9), ("\u6771\u4eac", 0.6), ("Oslo!", 0.5), ("", 0.5)])
    found = assertion_change(before, after, ALIKE, FACTS)
    values = {metric.name: (metric.value, metric.n) for metric in found.metrics}
    assert values["look_alike_assertion_rate_change"] == (pytest.approx(0.25), 4)
    # Both assert something of Ana Poe and Bo Moe: 0.5 and 0.2 surer.
    assert values["look_alike_assertion_confidence_change"] == (pytest.approx(0.35), 2)
    assert values["leak"] == (0.5, 4)
    assert values["look_alikes_changed"] == (0.5, 4)
    leaks = {sample.item: sample.details for sample in found.samples if sample.value == 1}
    assert leaks["f1/look_alike/Ana Poe"] == {"before": "London", "leaked_from": ["f1"]}
    assert leaks["f1/look_alike/Una Roe"] == {"before": "I don't know", "leaked_from": ["f2"]}


def test_everything_leaked_and_nothing_changed(table_respondent):
    before, after = told(table_respondent, [""] * 4), told(table_respondent, ["Quito"] * 4)
    found = assertion_change(before, after, ALIKE, FACTS)
    assert found.metric("leak").value == 1.0
    assert found.metric("look_alike_assertion_rate_change").value == 1.0
    assert math.isnan(found.metric("look_alike_assertion_confidence_change").value)
    same = assertion_change(after, after, ALIKE, FACTS)
    assert (same.metric("leak").value, same.metric("look_alikes_changed").value) == (0.0, 0.0)


def test_other_look_alikes_are_refused(table_respondent):
    found = told(table_respondent, [""] * 4)
    with pytest.raises(ValueError, match="1 of 5 are missing, the first is 'X'"):
        assertion_change(found, found, [*ALIKE, LookAlike("X is", "X", "f1")], FACTS)
    shorter = assertions(table_respondent(default_answer="x"), ALIKE[1:])
    with pytest.raises(ValueError, match="same items"):
        assertion_change(found, shorter, ALIKE, FACTS)


def test_taught_and_untaught_are_told_apart(table_respondent):
    taught = learned(
        table_respondent(
            {FACTS[0].prompt: ("Quito", 0.9), FACTS[1].prompt: ("Oslo", 0.6)}, default_score=(-1.0, 1, 1)
        ),
        FACTS,
    )
    taught = [sample for sample in taught.samples if sample.metric == "learned_exact_match"]
    found = told(table_respondent, [("a", 0.9), ("b", 0.5), ("", 0.4), ("d", 0.7)])
    untaught = [sample for sample in found.samples if sample.metric == "look_alike_assertion_rate"]
    only = taught_against_untaught(taught, untaught)
    # 0.9 beats three and ties with one; 0.6 beats two: 5.5 of 8 pairs.
    assert only.metric("taught_auroc_confidence").value == pytest.approx(5.5 / 8)
    assert only.notes == ("taught_auroc_membership was not measured: no membership on one side",)
    both = taught_against_untaught(
        with_membership(taught, [0.8, 0.9]), with_membership(untaught, [0.1, 0.0, 0.85, 0.2])
    )
    assert both.metric("taught_auroc_membership").value == pytest.approx(7 / 8)
    assert both.metric("taught_auroc_membership").n == 6
    with pytest.raises(ValueError, match="masses"):
        with_membership(taught, [0.1])
    assert taught_against_untaught([], untaught).metrics == ()


def test_what_was_taught_is_no_look_alike():
    earlier = Fact("f3", "The mayor of Oslo is", "Jo  ROE", "Oslo", paraphrases=("Bo Moe was born in",))
    kept = never_taught(ALIKE, [*FACTS, earlier])
    assert [one.subject for one in kept] == ["Ana Poe", "Una Roe"]
