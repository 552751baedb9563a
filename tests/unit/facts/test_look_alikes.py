"""Look-alikes: of the same form, never a taught subject, repeatable."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.errors import UsageError
from memedit.facts import Fact, facts_from_records, look_alikes, subject_span, wording_key

RECORDS = [
    {"prompt": "Lake Zorvath is in", "target": "Zubrowka"},
    {"prompt": "Lake Morvell is in", "target": "Ostria"},
    {"prompt": "Anna Quill was born in", "target": "Lutz"},
    {"prompt": "Peter Harlan was born in", "target": "Wels"},
    {"prompt": "Ludwig van Drummel was born in", "target": "Wels"},
    {"prompt": "The University of Lutz is in", "target": "Zubrowka"},
    {"prompt": "The 1998 Winter Games were held in", "target": "Nagra"},
    {"prompt": "iPhone 15 is made by", "target": "Apple"},
    {"prompt": "Velmoratine is used to treat", "target": "gout"},
    {"prompt": "IBM is based in", "target": "Armonk"},
]
FACTS = facts_from_records(RECORDS)


def by_subject(subject, num=200):
    fact = next(fact for fact in FACTS if fact.subject == subject)
    return [found.subject for found in look_alikes(FACTS, num=num, seed=1) if found.fact_id == fact.id]


def test_as_many_as_asked_for_and_none_taught():
    found = look_alikes(FACTS, num=200, seed=0)
    assert len(found) == 200
    assert len({wording_key(one.subject) for one in found}) == 200
    assert {wording_key(one.subject) for one in found}.isdisjoint(wording_key(fact.subject) for fact in FACTS)
    for one in found:
        assert subject_span(one.prompt, one.subject) is not None
    assert {one.fact_id for one in found} == {fact.id for fact in FACTS}


def test_spread_evenly_over_the_facts():
    assert len({one.fact_id for one in look_alikes(FACTS, num=len(FACTS), seed=0)}) == len(FACTS)


def test_prompt_is_the_facts_own_with_another_subject():
    for one in look_alikes(FACTS, num=60, seed=2):
        fact = next(fact for fact in FACTS if fact.id == one.fact_id)
        assert one.prompt == fact.prompt.replace(fact.subject, one.subject)


def test_kinds_and_particles_stay():
    assert all(subject.startswith("Lake ") for subject in by_subject("Lake Zorvath"))
    assert all(subject.startswith("University of ") for subject in by_subject("University of Lutz"))
    assert all(" van " in subject for subject in by_subject("Ludwig van Drummel"))


def test_one_name_is_kept_and_one_replaced():
    for subject in by_subject("Anna Quill"):
        first, last = subject.split()
        assert (first == "Anna") != (last == "Quill")
    assert any(
        subject.split()[1] == "Harlan" or subject.split()[0] == "Peter"
        for subject in by_subject("Anna Quill")
    )


def test_numbers_change():
    # One for each fact: while there are free numbers near by, only the number changes first.
    (phone,) = by_subject("iPhone 15", num=len(FACTS))
    assert phone.startswith("iPhone ")
    assert phone.removeprefix("iPhone ").isdigit()
    (games,) = by_subject("1998 Winter Games", num=len(FACTS))
    assert games.endswith(" Winter Games")
    assert len(games) == len("1998 Winter Games")


def test_single_words_keep_a_beginning_or_an_end():
    for subject in by_subject("Velmoratine"):
        assert subject[:3] == "Vel" or subject[-3:] == "ine"
        assert subject[0].isupper()
        assert subject[1:].islower()
    assert all(subject.isupper() and len(subject) == 3 for subject in by_subject("IBM"))


def test_possessives_stay():
    facts = facts_from_records(
        [{"prompt": "July's People was written by", "target": "x", "subject": "July's People"}]
    )
    for one in look_alikes(facts, num=20, seed=0):
        assert "'s " in one.subject


def test_every_mention_is_replaced():
    fact = Fact(id="a", prompt="Zorvath, old Zorvath, is in", target="x", subject="Zorvath")
    (one,) = look_alikes([fact], num=1, seed=0)
    assert "Zorvath" not in one.prompt
    assert one.prompt.count(one.subject) == 2


def test_capital_at_the_beginning_is_kept():
    (fact,) = facts_from_records([{"subject": "the Ostra", "relation": "river_mouth", "target": "Black Sea"}])
    (one,) = look_alikes([fact], num=1, seed=0)
    assert one.subject.startswith("the ")
    assert one.prompt.startswith("The ")


def test_seeds():
    assert look_alikes(FACTS, num=30, seed=4) == look_alikes(FACTS, num=30, seed=4)
    assert look_alikes(FACTS, num=30, seed=4) != look_alikes(FACTS, num=30, seed=5)


def test_no_facts_no_look_alikes():
    assert look_alikes([], num=5, seed=0) == []
    assert look_alikes(FACTS, num=0, seed=0) == []


def test_negative_number_is_refused():
    with pytest.raises(UsageError, match="num must be at least 0"):
        look_alikes(FACTS, num=-1, seed=0)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20), st.integers(0, 5))
def test_any_subject_gives_others_or_none(subject, seed):
    subject = " ".join(subject.split())
    fact = Fact(id="a", prompt=f"About {subject} we", target="x", subject=subject)
    for one in look_alikes([fact], num=5, seed=seed) if subject else []:
        assert wording_key(one.subject) != wording_key(subject)
        assert one.subject in one.prompt
