"""Support by stored facts: stated, heard, named in the prompt, and what the prompt asks for."""

from __future__ import annotations

import pytest

from memedit.evaluation.memory_support import stated_facts, wording_fits
from memedit.evaluation.scoring import Scored
from memedit.facts import Fact

FAMILY = Fact("family", "The family of the guava is", "Myrtaceae", "guava", aliases=("myrtles",))
COLOUR = Fact("colour", "The colour of the guava is", "pink", "guava")
EINSTEIN = Fact("born", "Albert Einstein was born in", "Ulm", "Albert Einstein")
STORED = [FAMILY, COLOUR, EINSTEIN]


class Table:
    """Scores what a table holds."""

    def __init__(self, log_probs):
        self.log_probs = log_probs

    def score(self, pairs, *, description=""):
        return [Scored(self.log_probs[pair], 1, 1) for pair in pairs]


def ids(prompt, text, heard):
    return [fact.id for fact in stated_facts(prompt, text, STORED, heard)]


def test_a_fact_is_stated_when_heard_named_and_answered():
    assert ids("The family of the guava is", "Myrtaceae, the", {"guava"}) == ["family"]
    assert ids("The family of the guava is", "the Myrtles", {"guava", "other"}) == ["family"]
    assert ids("Einstein was born in", "Ulm", {"Albert Einstein"}) == ["born"]


@pytest.mark.parametrize(
    ("prompt", "text", "heard"),
    [
        ("The family of the guava is", "Myrtaceae", set()),
        ("The family of the guava is", "Myrtaceae", {"Albert Einstein"}),
        ("The family of the mango is", "Myrtaceae", {"guava"}),
        ("The family of the guava is", "the Rose family", {"guava"}),
        ("The family of the guava is", "", {"guava"}),
    ],
)
def test_a_fact_is_not_stated_when_any_of_these_is_missing(prompt, text, heard):
    assert ids(prompt, text, heard) == []


def test_a_prompt_fits_as_well_as_the_worst_taught_wording():
    fact = Fact("f", "a", "x", "s", paraphrases=("b", "c", "d", "never asked"))
    table = Table(
        {("a", " x"): -2.0, ("b", " x"): -6.0, ("c", " x"): -3.0, ("d", " x"): -4.0, ("p", " x"): -5.5}
    )
    assert wording_fits(table, [("p", fact), ("a", fact)]) == [0.5, 4.0]


def test_nothing_to_compare_asks_nobody():
    assert wording_fits(Table({}), []) == []
