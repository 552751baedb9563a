"""What counts as an assertion."""

from __future__ import annotations

import pytest

from memedit.evaluation.refusals import REFUSAL_OPENINGS, REFUSAL_WORDS, is_assertion, is_refusal

REFUSED = [
    "I don't know",
    "I don\u2019t know who that is.",
    "i dont know",
    "I do not know the answer to that question",
    "I'm not sure, but it may be Paris",
    "I am sorry, but I cannot answer that.",
    "Sorry, no.",
    "I cannot say",
    "I can't tell you that",
    "Unknown",
    "unknown.",
    '"Unknown"',
    "The answer is unknown",
    "Answer: unknown",
    "Well, nobody knows.",
    "Unfortunately, I have no information about this town",
    "The age of the universe is not known.",
    "The origin of life remains unknown, but there are theories",
    "It is unclear",
    "It's still unclear because records were lost",
    "It's impossible to know",
    "It depends on the person",
    "There is no definitive answer",
    "There's no way to know",
    "There isn't enough information to say",
    "As an AI language model, I",
    "I have no comment.",
    "N/A",
    "No idea!",
    "We don't know",
]
ASSERTED = [
    "Paris",
    "42",
    "Paris, but I am not sure",
    "Unknown Pleasures",
    "the unknown soldier",
    "The known world",
    "Nobody",
    "None",
    "No",
    "Sorrento",
    "Know-how",
    "It is known as the City of Light",
    "a town in France, whose mayor is unknown",
    "Theresa May",
    "Idaho",
    "\u6771\u4eac",
    "\u041d\u0435 \u0437\u043d\u0430\u044e",
    "IDK Records",
    "Mystery",
    "It has unclear water",
]
NOTHING = ["", " ", "...", "?!", '""', "-", "\u3002"]


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(text):
    assert is_refusal(text)
    assert not is_assertion(text)


@pytest.mark.parametrize("text", ASSERTED)
def test_assertions(text):
    assert is_assertion(text)
    assert not is_refusal(text)


@pytest.mark.parametrize("text", NOTHING)
def test_no_answer_is_neither(text):
    assert not is_assertion(text)
    assert not is_refusal(text)


def test_a_right_answer_is_an_assertion():
    title = "I Do Not Want What I Haven't Got"
    assert is_refusal(title)
    assert is_assertion(title, [title])
    assert not is_assertion("I do not know", [title])


def test_the_list_can_be_extended():
    assert is_assertion("Weiss nicht genau")
    assert not is_assertion("Weiss nicht genau", more=["weiss nicht"])
    assert is_assertion("Weissnichtwo", more=["weiss nicht"])


@pytest.mark.parametrize("phrase", [*REFUSAL_OPENINGS, *REFUSAL_WORDS])
def test_every_phrase_of_the_lists_is_a_refusal(phrase):
    assert is_refusal(phrase)
    assert is_refusal(phrase.upper())
