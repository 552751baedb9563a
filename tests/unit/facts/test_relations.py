"""The bundled wordings: complete, varied, plain ASCII."""

import re

import pytest

from memedit.errors import FactsError
from memedit.facts import context_sentences, facts_from_records, relations
from memedit.facts.relations import closest

ALL = sorted(relations())


def test_there_are_enough():
    assert len(ALL) >= 40
    assert {"capital_of", "author", "airport_code", "atomic_number", "drug_treats", "native_to"} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_wordings_of_a_relation(name):
    relation = relations()[name]
    statements = (*relation.statements, *relation.probe_paraphrases)
    questions = (*relation.questions, *relation.probe_questions)
    assert len(relation.statements) >= 7
    assert len(relation.questions) >= 2
    assert len(relation.probe_paraphrases) >= 2
    assert len(relation.probe_questions) >= 1
    for text in (*statements, *questions):
        assert text.count("{}") == 1
        assert text.isascii()
        assert text == text.strip()
        assert "  " not in text
    assert len({text.casefold() for text in statements}) == len(statements)
    front = sum(text.startswith("{}") for text in relation.statements)
    assert 2 <= front <= len(relation.statements) - 2
    assert all(re.fullmatch(r"Q: .*\{\}.*\? A:|Q: .*\{\}.*\. A:", text) for text in relation.questions)
    assert all(
        re.fullmatch(r"Question: .*\{\}.*\nAnswer:|Question: .*\{\}.*[?.]\nAnswer:", text)
        for text in relation.probe_questions
    )
    cores = {text[3:-3] for text in relation.questions}
    assert cores.isdisjoint(text[len("Question: ") : -len("\nAnswer:")] for text in relation.probe_questions)


def test_relations_are_read_only():
    with pytest.raises(TypeError):
        relations()["new"] = None  # type: ignore[index]


def test_contexts():
    sentences = context_sentences()
    assert len(sentences) >= 200
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert 8 <= len(sentence) <= 90
        assert sentence.isascii()
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def test_contexts_name_nobody():
    days = {"Saturday", "Sundays"}
    for sentence in context_sentences():
        assert {word.strip(".,") for word in sentence.split()[1:] if word[0].isupper()} <= days


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("capital", "capital_of"),
        ("Capital-Of", "capital_of"),
        ("writer of", None),
        ("auther", "author"),
        ("currencies", "currency"),
        ("", None),
        ("qqqq", None),
    ],
)
def test_closest(name, meant):
    assert closest(name, relations()) == meant


def test_an_unknown_relation_lists_the_known_ones():
    with pytest.raises(FactsError) as caught:
        facts_from_records([{"subject": "Zor", "relation": "auther", "target": "x"}])
    assert "did you mean 'author'" in str(caught.value)
    assert all(name in str(caught.value) for name in ALL)
