"""The stored facts behind what was heard: all of them, each with its grounds, the best fitting first."""

from __future__ import annotations

import pytest

from memedit.editor.asking import facts_behind
from memedit.editor.provenance import Source, Spoken
from memedit.editor.results import OpenGate
from memedit.facts import Fact
from memedit.store import StoredFact

FOUNDER = Fact("founder", "TSMC was founded by", "Morris Chang", "TSMC")
PLACE = Fact("place", "The headquarters of TSMC are in", "Hsinchu", "TSMC", aliases=("Xinzhu",))
LAND = Fact("land", "The capital of Zubrowka is", "Lutz", "Zubrowka")
STORED = [StoredFact(fact, {}, "e1", active=True) for fact in (FOUNDER, PLACE, LAND)]
TOKENS = ["<s>", "The", " founder", " of", " TS", "MC", " is", " Morris"]
PROMPT = "The founder of TSMC is"


def source(subject, fact_ids, share, *places, edit="e1"):
    heard = [Spoken(place, 0, subject, mass, 0.25, (1,), (1.0,)) for place, mass in places]
    return Source(edit, subject, fact_ids, share, tuple(heard))


BOTH = source("TSMC", ("place", "founder"), 1.0, (4, 0.4), (5, 0.8), (7, 0.3))


def found(sources, prompt=PROMPT, answer="Morris Chang", stored=STORED):
    return facts_behind(sources, stored, prompt, answer, TOKENS, 7)


def ids(*arguments, **options):
    return [fact.fact_id for fact in found(*arguments, **options)]


def test_nothing_heard_rests_on_nothing():
    assert found([]) == ()


def test_each_fact_has_its_grounds():
    first, second = found([BOTH])
    assert (first.edit_id, first.fact_id, first.target, first.subject) == (
        "e1",
        "founder",
        "Morris Chang",
        "TSMC",
    )
    assert (first.share, first.mass, first.threshold) == (1.0, 0.8, 0.25)
    assert first.gates == second.gates
    assert first.gates[0] == OpenGate(" TS", in_answer=False, mass=0.4, threshold=0.25)
    assert [gate.in_answer for gate in first.gates] == [False, False, True]
    assert (first.states_target, second.states_target) == (True, False)


def test_the_fact_whose_target_is_stated_comes_before_the_one_worded_alike():
    assert ids([BOTH]) == ["founder", "place"]
    assert ids([BOTH], answer="Xinzhu, of course") == ["place", "founder"]


def test_where_no_target_is_stated_the_wording_decides():
    assert ids([BOTH], answer="Nobody") == ["founder", "place"]
    assert ids([BOTH], answer="", prompt="In which city are the headquarters of TSMC?") == [
        "place",
        "founder",
    ]


def test_subjects_come_in_the_order_of_what_they_said():
    land = source("Zubrowka", ("land",), 0.6, (1, 0.3))
    some = source("TSMC", ("founder",), 0.25, (4, 0.9))
    more = source("TSMC", ("place",), 0.15, (5, 0.9), edit="e2")
    stored = [*STORED, StoredFact(PLACE, {}, "e2", active=True)]
    assert ids([land, some, more], stored=stored) == ["land", "founder", "place"]
    louder = source("TSMC", ("place",), 0.45, (5, 0.9), edit="e2")
    assert ids([land, louder, some], stored=stored) == ["founder", "place", "land"]


@pytest.mark.parametrize(
    ("prompt", "match"),
    [
        ("The founder of TSMC is", "whole"),
        ("The founder of tsmc is", "whole"),
        ("The founder of Intel is", "none"),
    ],
)
def test_whether_the_subject_stands_in_the_prompt(prompt, match):
    assert {fact.subject_match for fact in found([BOTH], prompt=prompt)} == {match}


def test_a_short_form_of_the_subject_is_a_part():
    fact = Fact("born", "Albert Einstein was born in", "Ulm", "Albert Einstein")
    heard = [source("Albert Einstein", ("born",), 1.0, (4, 0.5))]
    (only,) = found(heard, "The birthplace of Einstein is", "Ulm", [StoredFact(fact, {}, "e1", active=True)])
    assert only.subject_match == "part"
