"""Facts: stable ids and a JSON round trip for any text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.errors import FactsError
from memedit.facts import Fact, MultiHop, Probe, Probes, QuestionRecord, fact_id, facts_from_records

texts = st.text(min_size=1)
lists = st.lists(texts, max_size=3).map(tuple)
probes = st.builds(Probe, texts, st.none() | texts, lists, st.none() | texts)
hops = st.builds(MultiHop, lists, texts, lists)
questions = st.builds(
    QuestionRecord,
    id=texts,
    question=texts,
    answers=lists,
    kind=st.sampled_from(["open", "multiple_choice", "answerable"]),
    correct=lists,
    incorrect=lists,
    best=st.none() | texts,
    answerable=st.none() | st.booleans(),
    popularity=st.none() | st.integers(0),
)
facts = st.builds(
    Fact,
    id=texts,
    prompt=texts,
    target=texts,
    subject=texts,
    aliases=lists,
    paraphrases=lists,
    relation=st.none() | texts,
    source=st.none() | texts,
    time=st.none() | texts,
    probes=st.builds(
        Probes,
        paraphrases=lists,
        questions=lists,
        locality=st.lists(probes, max_size=2).map(tuple),
        portability=st.lists(probes, max_size=2).map(tuple),
        multi_hop=st.lists(hops, max_size=2).map(tuple),
    ),
    replaces=st.none() | texts,
    line=st.none() | st.integers(1, 9),
)
# What a person could write: visible text in any script that survives stripping.
written = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=40
)


@given(facts)
def test_json_round_trip_keeps_everything_but_the_line(fact):
    copy = Fact.from_json(json.loads(json.dumps(fact.to_json())))
    assert copy == fact
    assert copy.line is None


@given(questions)
def test_questions_keep_everything_in_json(question):
    assert QuestionRecord.from_json(json.loads(json.dumps(question.to_json()))) == question


def test_a_plain_probe_is_a_string_and_a_full_one_an_object():
    assert Probe("Hamlet was written by").to_json() == "Hamlet was written by"
    full = Probe("Mara Quill was born in", "Lutz", ("City of Lutz",), "reasoning")
    assert full.to_json() == {
        "prompt": "Mara Quill was born in",
        "target": "Lutz",
        "aliases": ["City of Lutz"],
        "kind": "reasoning",
    }
    assert full.answers == ("Lutz", "City of Lutz")
    assert Probe("Hamlet was written by").answers == ()


def test_multi_hop_phrasings_are_never_trained():
    hop = MultiHop(("Where was the author of Gravel Moon born?", "Gravel Moon's author is from"), "Lutz")
    assert Probes(multi_hop=(hop,)).prompts == hop.prompts
    assert hop.answers == ("Lutz",)


@given(texts, texts, texts)
def test_ids_depend_on_content_alone(prompt, target, subject):
    name = fact_id(prompt, target, subject)
    assert name == fact_id(prompt, target, subject)
    assert len(name) == 12
    assert int(name, 16) >= 0
    assert name != fact_id(prompt + "x", target, subject)
    assert name != fact_id(prompt, target + "x", subject)
    assert name != fact_id(prompt, target, subject + "x")


def test_an_id_written_down_once_stays():
    assert fact_id("The capital of Zubrowka is", "Lutz", "Zubrowka") == "eec97a5eb711"


def test_neighbouring_fields_do_not_run_together():
    assert fact_id("a b", "c", "d") != fact_id("a", "b c", "d")


@given(written, written)
def test_any_written_text_is_read_or_refused_with_a_message(subject, target):
    record = {"prompt": f"About {subject} we know", "target": target, "subject": subject}
    refused = None
    try:
        (fact,) = facts_from_records([record])
    except FactsError as error:
        refused = error
    if refused:
        assert str(refused).startswith("fact 1: ")
        assert refused.remedy
    else:
        assert fact.target == fact.target.strip()
        assert facts_from_records([fact]) == [fact]


def test_stored_fact_without_a_field_is_an_error():
    with pytest.raises(FactsError, match="target"):
        Fact.from_json({"id": "a", "prompt": "b", "subject": "c"})


def test_line_is_no_part_of_identity():
    one = Fact(id="a", prompt="b", target="c", subject="d", line=1)
    assert one == Fact(id="a", prompt="b", target="c", subject="d", line=2)
