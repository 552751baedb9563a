"""The search for settings, and the facts that it may see."""

from __future__ import annotations

import pytest
from small_world import CITIES, land_fact

from memedit.baselines.splitting import split
from memedit.baselines.tuning import search
from memedit.errors import UsageError

CANDIDATES = [{"rate": float(rate)} for rate in range(1, 21)]


def scored(tried):
    """A trial whose best rate is 7 on a part of the facts and 8 on all."""

    def trial(settings, num_facts):
        tried.append((settings["rate"], num_facts))
        return {"score": -abs(settings["rate"] - (8 if num_facts == 90 else 7))}

    return trial


def test_the_best_of_the_part_are_tried_on_all_within_the_budget():
    tried = []
    found = search(CANDIDATES, 90, 24, scored(tried))
    assert len(tried) == 24
    assert [num for _, num in tried] == [30] * 18 + [90] * 6
    assert tried[0][0] == 1.0
    assert len({rate for rate, num in tried if num == 30}) == 18
    firsts = sorted((rate for rate, num in tried if num == 30), key=lambda rate: abs(rate - 7))[:6]
    assert {rate for rate, num in tried if num == 90} == set(firsts)
    assert found.settings == {"rate": min(firsts, key=lambda rate: abs(rate - 8))}
    assert [one["facts"] for one in found.trials] == [num for _, num in tried]


def test_few_facts_are_all_used_at_once():
    tried = []
    found = search(CANDIDATES, 12, 4, scored(tried))
    assert [num for _, num in tried] == [12] * 4
    assert found.settings["rate"] in [rate for rate, _ in tried]


def test_a_budget_of_one_tries_the_defaults():
    tried = []
    assert search(CANDIDATES, 90, 1, scored(tried)).settings == {"rate": 1.0}
    assert tried == [(1.0, 30)]


def facts(names):
    return [land_fact(name, CITIES[0]) for name in names]


MANY = [f"Land{number}" for number in range(60)]


def test_a_fifth_of_the_subjects_is_taken_out():
    reported, tuning = split(facts(MANY), None)
    assert 4 <= len(tuning) <= 24
    assert {fact.subject for fact in reported} & {fact.subject for fact in tuning} == set()
    assert len(reported) + len(tuning) == 60
    again, _ = split(facts(reversed(MANY)), None)
    assert {fact.subject for fact in again} == {fact.subject for fact in reported}


def test_given_facts_about_a_reported_subject_do_not_count():
    reported, tuning = split(facts(MANY[:9]), facts([*MANY[5:15], MANY[0].upper()]))
    assert [fact.subject for fact in reported] == MANY[:9]
    assert [fact.subject for fact in tuning] == MANY[9:15]


def test_too_few_facts_to_tune_on_are_refused():
    with pytest.raises(UsageError, match="--dev FILE"):
        split(facts(MANY[:3]), None)
    with pytest.raises(UsageError, match="about a reported subject"):
        split(facts(MANY[:9]), facts(MANY[:9]))
