"""How alike wordings are: which of a subject's facts a prompt asks for."""

from __future__ import annotations

import pytest

from memedit.facts import facts_from_records
from memedit.facts.likeness import wording_likeness


def fact(prompt, subject="TSMC", **more):
    (made,) = facts_from_records([{"prompt": prompt, "target": "x", "subject": subject, **more}])
    return made


FOUNDER = fact("TSMC was founded by")
PLACE = fact("The headquarters of TSMC are in the city of")


def test_a_taught_wording_is_wholly_alike():
    assert wording_likeness("TSMC was founded by", FOUNDER) == 1.0
    assert wording_likeness("  tsmc  was FOUNDED by", FOUNDER) == 1.0


def test_the_subject_does_not_count():
    assert wording_likeness("Morris Chang was founded by", FOUNDER) < 1
    assert wording_likeness("TSMC", PLACE) < 0.2
    assert wording_likeness("", FOUNDER) == 0.0


def test_other_forms_of_a_word_are_near():
    assert wording_likeness("The founder of TSMC is", FOUNDER) > wording_likeness(
        "The colour of TSMC is", FOUNDER
    )


@pytest.mark.parametrize(
    ("asked", "near", "far"),
    [
        ("Question: Who founded TSMC?\nAnswer:", FOUNDER, PLACE),
        ("In which city does TSMC have its headquarters?", PLACE, FOUNDER),
        ("\u53f0\u79ef\u7535 TSMC headquarters:", PLACE, FOUNDER),
    ],
)
def test_the_fact_that_is_asked_for_is_nearer(asked, near, far):
    assert wording_likeness(asked, near) > wording_likeness(asked, far)


def test_bundled_wordings_of_the_relation_count():
    named = fact("TSMC, founder:", relation="founder")
    bare = fact("TSMC, founder:")
    asked = "The person who started TSMC is"
    assert wording_likeness(asked, named) > wording_likeness(asked, bare)
