"""Formats that hold questions: what each field becomes."""

from __future__ import annotations

import pytest

from memedit.errors import FactsError
from memedit.facts import QuestionRecord, read_records


@pytest.fixture
def read(dataset):
    """The questions of records in one file."""
    return lambda *records, name="data.json": read_records(dataset(list(records), name)).questions


def test_nq_open(read, record):
    (question,) = read(record("nq_open"), name="nq.jsonl")
    assert (question.question, question.answers) == (record("nq_open")["question"], ("Ada Bell", "Bell"))
    assert (question.kind, question.answerable) == ("open", None)
    assert read(record("nq_open", {"answer": "Ada Bell"}))[0].answers == ("Ada Bell",)


def test_questions_without_numbers_have_the_same_id_in_every_file(read, record):
    (alone,) = read(record("nq_open"))
    other = record("nq_open", {"question": "who built the dam"})
    assert read(other, record("nq_open"))[1].id == alone.id
    assert len(alone.id) == 12


def test_a_question_that_comes_again_gets_an_id_of_its_own(read, record):
    first, second = read(record("nq_open"), record("nq_open"))
    assert second.id == f"{first.id}-2"


def test_triviaqa_in_both_spellings(read, record):
    expected = (QuestionRecord("tc_1", "Who sang at the opening of the dam?", ("Ada Bell", "Bell")),)
    assert read(record("triviaqa")) == expected
    published = {
        "Question": "Who sang at the opening of the dam?",
        "QuestionId": "tc_1",
        "Answer": {"Value": "Ada Bell", "Aliases": ["Bell"]},
    }
    assert read(published) == expected


def test_triviaqa_as_published_wraps_its_records(record, dataset):
    path = dataset({"Data": [record("triviaqa")], "Domain": "Web", "Version": 1.0})
    records = read_records(path)
    assert (records.format, len(records.questions)) == ("triviaqa", 1)


def test_popqa(read, record):
    expected = (
        QuestionRecord("41", "What is Mara Quill's occupation?", ("novelist", "writer"), popularity=142),
    )
    assert read(record("popqa")) == expected
    assert read(record("popqa", {"possible_answers": ["novelist", "writer"]})) == expected
    assert read(record("popqa"), name="test.tsv") == expected


def test_simpleqa(read, record):
    (question,) = read(record("simpleqa"), name="simple_qa_test_set.csv")
    assert (question.question, question.answers) == ("Who sang at the opening of the dam?", ("Ada Bell",))


TRUTHFUL = {
    "kind": "multiple_choice",
    "answers": ["Nothing happens", "You pass it"],
    "correct": ["Nothing happens", "You pass it"],
    "incorrect": ["You float", "You glow at night"],
    "best": "Nothing happens",
}


def test_truthfulqa_as_published(read, record):
    (question,) = read(record("truthfulqa"), name="TruthfulQA.csv")
    assert TRUTHFUL.items() <= question.to_json().items()


def test_truthfulqa_of_the_hub(read):
    generation = {
        "question": "What happens if you eat a moon pebble?",
        "best_answer": "Nothing happens",
        "correct_answers": ["Nothing happens", "You pass it"],
        "incorrect_answers": ["You float", "You glow at night"],
    }
    choices = ["Nothing happens", "You float", "You glow at night"]
    multiple_choice = {
        "question": "What happens if you eat a moon pebble?",
        "mc1_targets": {"choices": choices, "labels": [1, 0, 0]},
        "mc2_targets": {"choices": ["You pass it", *choices], "labels": [1, 1, 0, 0]},
    }
    (one,), (other,) = read(generation), read(multiple_choice)
    assert TRUTHFUL.items() <= one.to_json().items()
    assert {**TRUTHFUL, "best": one.best, "incorrect": list(one.incorrect)}.items() <= one.to_json().items()
    assert (other.best, other.correct) == ("Nothing happens", ("You pass it", "Nothing happens"))
    assert other.incorrect == ("You float", "You glow at night")
    assert one.id == other.id


def test_selfaware_wraps_its_records(record, dataset):
    known = {"question_id": 6, "question": "Who built it?", "answer": ["Tom Hale"], "answerable": True}
    path = dataset({"dataset_name": "SelfAware", "keywords": ["a"], "example": [known, record("selfaware")]})
    answerable, unanswerable = read_records(path).questions
    assert (answerable.id, answerable.answers, answerable.answerable) == ("6", ("Tom Hale",), True)
    assert (unanswerable.id, unanswerable.answers, unanswerable.answerable) == ("5", (), False)
    assert unanswerable.kind == "answerable"


def test_questions_are_nothing_to_teach(record, dataset):
    records = read_records(dataset([record("nq_open")]))
    with pytest.raises(FactsError, match="1 questions and nothing to teach"):
        records.require_facts()
