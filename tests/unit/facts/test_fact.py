"""Facts: stable ids and a JSON round trip for any text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.errors import FactsError
from memedit.facts import Fact, Probe, Probes, fact_id, facts_from_records

texts = st.text(min_size=1)
lists = st.lists(texts, max_size=3).map(tuple)
probes = st.builds(Probe, texts, st.none() | texts)
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
    ),
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
