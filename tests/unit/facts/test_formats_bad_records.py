"""Bad records: each is named with its line, its field, and what was expected, and costs no other record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.errors import FactsError, UsageError
from memedit.facts import read_records
from memedit.facts.formats import FORMATS


def failure(path, *arguments, **options):
    with pytest.raises(UsageError) as caught:
        read_records(path, *arguments, **options)
    return caught.value


BAD = [
    ("counterfact", {"requested_rewrite": []}, "requested_rewrite", "must be an object, got a list"),
    (
        "counterfact",
        {"requested_rewrite.subject": None},
        "requested_rewrite.subject",
        "is missing, expected a text",
    ),
    (
        "counterfact",
        {"requested_rewrite.prompt": "It is"},
        "requested_rewrite.prompt",
        "in the place of the subject",
    ),
    (
        "counterfact",
        {"requested_rewrite.target_new": 3},
        "requested_rewrite.target_new",
        "must be an object, got the",
    ),
    ("counterfact", {"requested_rewrite.target_new.str": ""}, "requested_rewrite.target_new.str", "is empty"),
    (
        "counterfact",
        {"requested_rewrite.target_new.str": "a\nb"},
        "requested_rewrite.target_new.str",
        "line break",
    ),
    (
        "counterfact",
        {"paraphrase_prompts": "x"},
        "paraphrase_prompts",
        "must be a list of texts, got a string",
    ),
    (
        "counterfact",
        {"neighborhood_prompts": ["x", 1]},
        "neighborhood_prompts[1]",
        "must be a string, got the number",
    ),
    ("counterfact_compact", {"subject": "Ostria"}, "subject", "does not contain its subject 'Ostria'"),
    ("counterfact_compact", {"target_new": " "}, "target_new", "is empty after stripping"),
    ("counterfact_compact", {"target_new": "is"}, "prompt", "already ends with the target"),
    ("counterfact_compact", {"rephrase_prompt": ["x"]}, "rephrase_prompt", "must be a string, got a list"),
    ("counterfact_compact", {"prompt": "The capital of {} and Zubrowka is"}, "prompt", "has a gap"),
    ("counterfact_compact", {"prompt": "Zubrowka\u0007 is"}, "prompt", "U+0007"),
    ("zsre", {"alt": ""}, "alt", "is empty"),
    ("zsre", {"answers": []}, "answers", "is empty, expected at least one answer"),
    ("zsre", {"src": "Who wrote it?"}, "subject", "does not contain its subject"),
    ("knowedit", {"portability": "x"}, "portability", "must be an object, got a string"),
    (
        "knowedit",
        {"portability.Reasoning": ["x"]},
        "portability.Reasoning[0]",
        "must be an object, got a string",
    ),
    ("knowedit", {"portability.Reasoning": 3}, "portability.Reasoning", "must be a list of objects"),
    ("knowedit", {"portability.Reasoning.0.prompt": None}, "portability.Reasoning[0].prompt", "is missing"),
    (
        "knowedit",
        {"portability.Reasoning.0.ground_truth": [[{}]]},
        "portability.Reasoning[0].ground_truth",
        "holds an object",
    ),
    (
        "knowedit",
        {"locality.Forgetfulness.ground_truth": ["x"]},
        "locality.Forgetfulness[0].ground_truth",
        "as long as prompt (2)",
    ),
    (
        "knowedit",
        {"rephrase_prompt": {}},
        "rephrase_prompt",
        "must be a text or a list of texts, got an object",
    ),
    ("mquake", {"requested_rewrite": []}, "requested_rewrite", "is empty, expected at least one"),
    ("mquake", {"requested_rewrite.1.subject": None}, "requested_rewrite[1].subject", "is missing"),
    ("mquake", {"new_answer": True}, "new_answer", "must be a string, got true or false"),
    ("wikibigedit", {"update": "Who is she?"}, "subject", "does not contain its subject"),
    ("known", {"attribute": None}, "attribute", "is missing"),
    ("nq_open", {"answer": []}, "answer", "is empty"),
    ("nq_open", {"question": ""}, "question", "is empty"),
    ("triviaqa", {"answer.value": None}, "answer.value or Value", "is missing"),
    ("popqa", {"possible_answers": "[novelist"}, "possible_answers", "must be a JSON list in a string"),
    ("popqa", {"possible_answers": "3"}, "possible_answers", "must hold a list of texts, got the number 3"),
    ("popqa", {"s_pop": "many"}, "s_pop", "must be a number, got 'many'"),
    ("simpleqa", {"answer": None}, "answer", "is missing"),
    ("truthfulqa", {"Incorrect Answers": " ; "}, "Incorrect Answers", "is empty"),
    ("selfaware", {"answerable": "no"}, "answerable", "must be true or false, got a string"),
    ("selfaware", {"answer": ["x"]}, "answer", "is given, but answerable is false"),
    ("selfaware", {"answerable": True}, "answer", "is missing"),
]


@pytest.mark.parametrize(("name", "changes", "field", "said"), BAD)
def test_a_bad_record_is_named_and_skipped(record, renamed, dataset, name, changes, field, said):
    good = renamed(renamed(record(name), "Zubrowka", "Maldoria"), "Gravel Moon", "Iron Moon")
    good = renamed(renamed(good, "Tom Hale", "Ned Hale"), "Lac Otil", "Lac Umber")
    good = renamed(good, "Mara Quill", "Nora Quill")
    path = dataset([good, record(name, changes)])
    convention = "alt" if name == "zsre" else None
    line = path.read_text(encoding="utf-8").splitlines().index(" {", 2) + 1
    error = failure(path, name, target_convention=convention)
    assert str(error).startswith(f"{path}:{line}: record 2: ")
    assert said in str(error)
    assert (error.line, error.field) == (line, field)
    assert "--skip-bad" in str(error)
    records = read_records(path, name, skip_bad=True, target_convention=convention)
    assert [(bad.record, bad.line, bad.field) for bad in records.bad] == [(2, line, field)]
    assert said in records.bad[0].message
    assert records.num_records == 2
    assert len(records.facts) + len(records.questions) == (2 if name == "mquake" else 1)


def test_every_format_has_a_bad_record_above():
    assert {name for name, *_ in BAD} == set(FORMATS) - {"memedit"}


def test_lines_of_json_are_named_by_their_line(record, dataset):
    path = dataset([record("nq_open")], "nq.jsonl")
    with path.open("a") as stream:
        stream.write('\n{"question": "x"}\n{oops\n{"question": "y", "question": "z", "answer": "w"}\n')
    text = str(failure(path))
    for said in (
        "nq.jsonl:3: answer is missing",
        "nq.jsonl:4: not JSON",
        "nq.jsonl:5: the key 'question' is there",
    ):
        assert said in text
    bad = read_records(path, skip_bad=True).bad
    assert [(each.record, each.line) for each in bad] == [(2, 3), (3, 4), (4, 5)]
    assert str(bad[0]).startswith(f"{path}:3: answer is missing")


def test_undecodable_lines_are_skipped(record, dataset):
    path = dataset([record("nq_open")], "nq.jsonl")
    path.write_bytes(path.read_bytes() + b'{"question": "caf\xe9", "answer": "x"}\n')
    assert "2: not UTF-8: byte 0xE9" in str(failure(path))
    assert len(read_records(path, skip_bad=True).questions) == 1


def test_at_most_20_problems_are_listed(record, dataset):
    path = dataset([record("nq_open"), *[record("nq_open", {"answer": None})] * 50])
    text = str(failure(path))
    assert "at least 20 problems" in text
    assert text.count("answer is missing") == 20
    assert len(read_records(path, skip_bad=True).bad) == 50


def test_a_file_of_bad_records_only_is_an_error_even_when_skipping(record, dataset):
    path = dataset([record("nq_open", {"answer": None})] * 3)
    error = failure(path, "nq_open", skip_bad=True)
    assert "None of 3 records can be used" in str(error)


def test_contradictions_are_bad_records(record, dataset):
    other = record("counterfact_compact", {"target_new": "Ostra"})
    path = dataset([record("counterfact_compact"), other])
    assert "'Ostra' here and 'Lutz' on line 2" in str(failure(path))
    records = read_records(path, skip_bad=True)
    assert [fact.target for fact in records.facts] == ["Lutz"]
    assert (records.bad[0].record, records.bad[0].field) == (2, "target")


def test_doubles_are_merged(record, dataset):
    again = record("counterfact_compact", {"rephrase_prompt": "The seat of Zubrowka is"})
    records = read_records(dataset([record("counterfact_compact"), again]))
    assert records.facts[0].probes.paraphrases == ("Zubrowka is governed from", "The seat of Zubrowka is")
    assert [(each.line, each.into_line) for each in records.merged] == [(12, 2)]


def test_the_rewrites_of_a_record_stand_or_fall_together(record, renamed, dataset):
    contradicting = renamed(record("mquake"), "Gravel Moon", "Iron Moon")
    contradicting["requested_rewrite"][1]["target_new"]["str"] = "Brom"
    path = dataset([record("mquake"), contradicting])
    records = read_records(path, skip_bad=True)
    assert [fact.subject for fact in records.facts] == ["Gravel Moon", "Tom Hale"]
    assert len(records.bad) == 1


def test_a_record_that_contradicts_itself_is_bad(record, dataset):
    twice = record("mquake")
    twice["requested_rewrite"][1] = {**twice["requested_rewrite"][0], "target_new": "Ada Bell"}
    records = read_records(dataset([record("mquake"), twice]), skip_bad=True)
    assert len(records.facts) == 2
    assert "'Ada Bell' here" in records.bad[0].message


def test_probes_that_another_record_teaches_are_left_out(record, renamed, dataset):
    neighbour = renamed(record("counterfact_compact"), "Zubrowka", "Ostria")
    neighbour["locality_prompt"] = "The capital of Maldor is"
    records = read_records(dataset([record("counterfact_compact"), neighbour]))
    first, second = records.facts
    assert first.probes.locality == ()
    assert len(second.probes.locality) == 1
    (left_out,) = records.left_out
    assert (left_out.fact_id, left_out.taught_by) == (first.id, second.id)
    assert left_out.prompt == "The capital of Ostria is"


def test_phrasings_of_a_hop_are_left_out_one_by_one(record, dataset):
    taught = record("zsre", {"src": record("mquake")["questions"][0]})
    own = {"prompt": f"Q: {taught['src']} A:", "target": "Brom", "subject": "Gravel Moon"}
    hop = {"prompts": [own["prompt"], "Its land is"], "target": "Ostria"}
    other = {"prompt": "The capital of Zubrowka is", "target": "Lutz", "probes": {"multi_hop": [hop]}}
    path = dataset([own, other], "facts.jsonl")
    assert "also taught by line 1" in str(failure(path))
    records = read_records(path, skip_bad=True)
    assert records.facts[1].probes.multi_hop[0].prompts == ("Its land is",)


def test_own_files_say_what_they_said_before(record, dataset):
    path = dataset([record("memedit"), {**record("memedit"), "targte": "x"}], "facts.jsonl")
    assert f"{path}:2: unknown key 'targte' (did you mean 'target'?)" in str(failure(path))


def test_target_convention_has_to_be_said(record, dataset):
    path = dataset([record("zsre")])
    text = str(failure(path))
    assert "answers = the true answer" in text
    assert "alt = the other answer" in text
    assert "--target-convention answers" in text
    assert "unknown target convention 'old'" in str(failure(path, target_convention="old"))
    other = dataset([record("known")], "known.json")
    assert "'alt' has no meaning" in str(failure(other, target_convention="alt"))


@given(
    st.sampled_from(sorted(FORMATS)),
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=5),
    st.randoms(use_true_random=False),
)
def test_any_value_of_any_field_is_read_or_named(tmp_path_factory, name, value, random):
    records = json.loads((Path(__file__).parent / "dataset_records.json").read_text())
    changed = records[name]
    changed[random.choice(sorted(changed))] = value
    path = tmp_path_factory.getbasetemp() / "any_value.json"
    path.write_text(json.dumps([changed]))
    said = ""
    try:
        read = read_records(path, name, target_convention="alt" if name == "zsre" else None)
    except FactsError as error:
        said = str(error)
    assert f"{path}:1: record 1: " in said if said else read.num_records == 1
