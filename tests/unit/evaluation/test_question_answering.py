"""SQuAD's exact match and F1, by hand and against torchmetrics."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.text import squad

from memedit.evaluation.question_answering import squad_exact_match, squad_f1, squad_normalise

NASTY = [
    "",
    " ",
    "the",
    "The, the. A",
    "?!",
    "Paris",
    "paris, france",
    "the city of Paris, the capital",
    "Paris Paris Paris",
    "a-b",
    "an apple a day",
    "\u201cParis\u201d",
    "caf\u00e9",
    "cafe\u0301",
    "\u6771\u4eac",
    "\u6771\u4eac \u90fd",
    "th\u00e9 the\u00e9 a\u0301",
    "\u0130stanbul",
    "STRASSE stra\u00dfe",
    "1,500 km",
    "1500km",
    "tab\tnew\nline\u00a0nbsp\u2003em",
    "\u05ea\u05dc \u05d0\u05d1\u05d9\u05d1",
    "end <|endoftext|> the",
]
WORDS = st.text("aAnNtThHeE .,-\u00e9\u201c\u0301\u6771\n", max_size=14)


def independent(text, answers):
    found = squad(
        [{"prediction_text": text, "id": "1"}],
        [{"answers": {"answer_start": [0] * len(answers), "text": list(answers)}, "id": "1"}],
    )
    return float(found["exact_match"]) / 100, float(found["f1"]) / 100


def check(text, answers):
    exact, f1 = independent(text, answers)
    assert squad_exact_match(text, answers) == exact
    assert squad_f1(text, answers) == pytest.approx(f1, abs=1e-6)


@pytest.mark.parametrize("text", NASTY)
def test_nasty_texts_score_as_in_torchmetrics(text):
    for answer in NASTY:
        check(text, [answer])
    check(text, NASTY[:3])
    check(text, NASTY[5:9])


@given(st.one_of(WORDS, st.text(max_size=20)), st.lists(WORDS, min_size=1, max_size=3))
@settings(deadline=None)
def test_random_texts_score_as_in_torchmetrics(text, answers):
    check(text, answers)


@pytest.mark.parametrize(
    ("text", "answers", "exact", "f1"),
    [
        ("Paris", ["Paris"], 1, 1),
        ("the PARIS!", ["Paris"], 1, 1),
        # One of two words, the only one expected: P = 1/2, R = 1.
        ("Paris, France", ["Paris"], 0, 2 / 3),
        # Two words in common, of five and three.
        ("He lives in New York", ["New York City"], 0, 2 * 2 / 8),
        ("Lyon", ["Paris", "Lyon"], 1, 1),
        # A word that is expected once counts once.
        ("no no no", ["no"], 0, 0.5),
        ("", ["Paris"], 0, 0),
        ("the", ["A"], 1, 1),
        ("Paris", ["the"], 0, 0),
        ("Paris", [], 0, 0),
        # What the official rule does not make equal: another Unicode form, and curly quotes.
        ("cafe\u0301", ["caf\u00e9"], 0, 0),
        ("\u201cParis\u201d", ["Paris"], 0, 0),
        ("\u6771\u4eac\u90fd", ["\u6771\u4eac"], 0, 0),
    ],
)
def test_by_hand(text, answers, exact, f1):
    assert squad_exact_match(text, answers) == exact
    assert squad_f1(text, answers) == pytest.approx(f1)


def test_one_answer_may_be_a_plain_string():
    assert squad_exact_match("Paris", "paris") == 1
    assert squad_f1("Paris", "paris") == 1


def test_normalise():
    assert squad_normalise("The  cat's A-level,\n an\u00a0egg") == "cats alevel egg"
