"""Joining answers, filling templates, finding the subject."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.facts import fill, join, mention_span, relations, subject_span, wording_key


@pytest.mark.parametrize(
    ("prompt", "target", "text"),
    [
        ("The capital is", "Lutz", "The capital is Lutz"),
        ("The capital is ", "Lutz", "The capital is Lutz"),
        ("Answer:\n", "Lutz", "Answer:\nLutz"),
        ('The book is called "', "Dune", 'The book is called "Dune'),
        ('The author of "Dune"', "is", 'The author of "Dune" is'),
        ("The code (", "ZVT)", "The code (ZVT)"),
        ("The boys'", "school", "The boys' school"),
        ("\u00ab", "Lutz", "\u00abLutz"),
        (
            "\u6cd5\u56fd\u7684\u9996\u90fd\u662f",
            "\u5df4\u9ece",
            "\u6cd5\u56fd\u7684\u9996\u90fd\u662f\u5df4\u9ece",
        ),
        ("\u6cd5\u56fd\u7684\u9996\u90fd\u662f", "Paris", "\u6cd5\u56fd\u7684\u9996\u90fd\u662f Paris"),
        (
            "\u0627\u0644\u0639\u0627\u0635\u0645\u0629",
            "\u0628",
            "\u0627\u0644\u0639\u0627\u0635\u0645\u0629 \u0628",
        ),
        ("", "Lutz", "Lutz"),
    ],
)
def test_join(prompt, target, text):
    assert join(prompt, target) == text


@given(st.text(), st.text())
def test_join_starts_with_the_prompt_and_ends_with_the_target(prompt, target):
    text = join(prompt, target)
    assert text.startswith(prompt)
    assert text.endswith(target)
    assert len(text) - len(prompt) - len(target) in (0, 1)


@pytest.mark.parametrize(
    ("template", "subject", "text"),
    [
        ("{} is in", "the Ostra", "The Ostra is in"),
        ("{} is in", "aspirin", "Aspirin is in"),
        ("{} is made by", "iPhone 15", "iPhone 15 is made by"),
        ("{} was born in", "k.d. lang", "k.d. lang was born in"),
        ("Q: {} is where? A:", "the Ostra", "Q: The Ostra is where? A:"),
        ("The river {} is in", "the Ostra", "The river Ostra is in"),
        ("The mouth of {} is", "the Ostra", "The mouth of the Ostra is"),
        ("The painting {} is by", "The Scream", "The painting The Scream is by"),
        ("All the way down {} is", "the Ostra", "All the way down the Ostra is"),
        ("{}'s capital is", "Zubrowka", "Zubrowka's capital is"),
    ],
)
def test_fill(template, subject, text):
    assert fill(template, subject) == text


@pytest.mark.parametrize("subject", ["the Ostra", "Zubrowka", "aspirin", "iPhone 15", "The Hobbit", "C++"])
def test_every_bundled_wording_holds_its_subject(subject):
    for relation in relations().values():
        probes = (*relation.probe_paraphrases, *relation.probe_questions)
        for template in (*relation.statements, *relation.questions, *probes):
            text = fill(template, subject)
            assert "{}" not in text
            assert mention_span(text, subject) is not None, text


@pytest.mark.parametrize(
    ("prompt", "subject", "found"),
    [
        ("Ann met Ann in", "Ann", 8),
        ("Ann is annoying", "ann", 0),
        ("Annoying Ann is", "Ann", 9),
        ("the Ostra is", "The Ostra", 0),
        ("In Budapesten the", "Budapest", 3),
        ("The planet is", "Plane", None),
        ("Uncanny is", "canny", None),
        ("\u6cd5\u56fd\u7684\u9996\u90fd\u662f", "\u6cd5\u56fd", 0),
        ("\u05d1\u05d9\u05e8\u05d5\u05e9\u05dc\u05d9\u05dd", "\u05d9\u05e8\u05d5\u05e9\u05dc\u05d9\u05dd", 1),
        ("The author of C++ is", "C++", 14),
        ("War  and\tPeace is by", "War and Peace", 0),
        ("Zubrowka's capital", "Zubrowka", 0),
        ("Zubrowka", "   ", None),
    ],
)
def test_subject_span_start(prompt, subject, found):
    span = subject_span(prompt, subject)
    assert (span[0] if span else None) == found


@given(st.text(), st.text(min_size=1), st.text())
def test_a_subject_between_spaces_is_always_found(before, subject, after):
    subject = " ".join(subject.split())
    prompt = f"{before} {subject} {after}"
    span = subject_span(prompt, subject)
    if subject:
        assert span is not None
        start, end = span
        assert 0 <= start < end <= len(prompt)
        assert wording_key(prompt[start:end]) == wording_key(subject)


@pytest.mark.parametrize(
    ("prompt", "subject", "mention"),
    [
        ("Albert Einstein was born in", "Albert Einstein", "Albert Einstein"),
        ("Einstein was born in", "Albert Einstein", "Einstein"),
        ("The van Beethoven house in", "Ludwig van Beethoven", "Beethoven"),
        ("The UN is based in", "United Nations", "UN"),
        ("The Hague is in", "Hague", "Hague"),
        ("The band is from", "The Beatles", None),
        ("The University is in", "University of Lutz", "University"),
        ("Lutz is a fine place", "University of Lutz", "Lutz"),
        ("He was born in", "Albert Einstein", None),
        ("A number of people in", "State of Ann", None),
    ],
)
def test_short_forms_of_a_subject(prompt, subject, mention):
    span = mention_span(prompt, subject)
    assert (prompt[slice(*span)] if span else None) == mention


@given(st.text())
def test_wording_key_is_stable(text):
    assert wording_key(wording_key(text)) == wording_key(text)
    assert wording_key(f"  {text}\t") == wording_key(text)
