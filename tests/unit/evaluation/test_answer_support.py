"""Support of an answer: its probability for this subject, against look-alikes of the subject."""

from __future__ import annotations

import math

import pytest

from memedit.evaluation.answer_support import answer_clause, contrastive_support, support_of_answers
from memedit.evaluation.scoring import Scored


class Table:
    """Scores what a table holds; anything else is improbable."""

    def __init__(self, log_probs, other=-9.0):
        self.log_probs, self.other, self.asked = log_probs, other, []

    def score(self, pairs, *, description=""):
        self.asked += pairs
        return [Scored(self.log_probs.get(pair, self.other), 1, 1) for pair in pairs]


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("Paris, which is the capital", "Paris"),
        ("Paris. It lies", "Paris"),
        ("Paris (France)", "Paris"),
        ("Paris \u2014 the city", "Paris"),
        ("3.14 or so", "3.14 or so"),
        ("1,500 people!", "1,500 people"),
        ("a city that is so very far away", "a city that is so very"),
        ("  Oslo\nBergen", "Oslo"),
        ("\u6771\u4eac", "\u6771\u4eac"),
        ("", ""),
        ("...", ""),
    ],
)
def test_the_clause_is_the_answer(text, clause):
    assert answer_clause(text) == clause


def test_what_is_likely_for_every_subject_supports_less():
    assert contrastive_support(-1.0, []) == -1.0
    assert contrastive_support(-1.0, [-1.0, -1.0]) == -1.0
    assert contrastive_support(-1.0, [-5.0]) == pytest.approx(0.0)
    assert contrastive_support(-1.0, [-0.2]) == pytest.approx(-1.2)
    # The mean of the probabilities counts, not that of their logarithms.
    mean = math.log((math.exp(-1) + math.exp(-800)) / 2)
    assert contrastive_support(-1.0, [-1.0, -800.0]) == pytest.approx(-1.0 + (-1.0 - mean) / 4)


def test_answers_are_weighed_behind_their_prompt_and_two_look_alikes():
    table = Table({("The capital of France is", " Paris"): -0.5})
    (support,) = support_of_answers(table, ["The capital of France is"], ["Paris, a city"])
    assert [pair[1] for pair in table.asked] == [" Paris"] * 3
    prompts = [prompt for prompt, _ in table.asked]
    assert len(set(prompts)) == 3
    assert all(prompt.startswith("The capital of ") and prompt.endswith(" is") for prompt in prompts)
    assert support == pytest.approx(-0.5 + (-0.5 + 9.0) / 4)


def test_without_a_subject_there_is_no_contrast():
    table = Table({("water freezes at", " zero"): -0.5})
    assert support_of_answers(table, ["water freezes at"], ["zero."]) == [-0.5]
    assert len(table.asked) == 1


def test_an_empty_answer_has_no_support_and_is_not_asked_about():
    table = Table({})
    assert support_of_answers(table, ["The capital of France is", "a"], [" ", ""]) == [-math.inf, -math.inf]
    assert table.asked == []
    assert support_of_answers(table, [], []) == []


def test_each_answer_keeps_its_own_scores():
    table = Table({("a", " b"): -1.0, ("c", " d"): -2.0})
    assert support_of_answers(table, ["a", "x", "c"], ["b", "", "d"]) == [-1.0, -math.inf, -2.0]
    with pytest.raises(ValueError, match="zip"):
        support_of_answers(table, ["a"], [])
