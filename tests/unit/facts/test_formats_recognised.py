"""Which format a file is read in: named, recognised, or an error that says what was considered."""

from __future__ import annotations

import pytest

from memedit.errors import FactsError, UsageError
from memedit.facts import read_records
from memedit.facts.formats import FORMATS

TABLES = {"simpleqa": "csv", "truthfulqa": "csv", "popqa": "tsv"}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_formats_are_recognised_by_their_fields(record, dataset, name, ending):
    convention = "answers" if name == "zsre" else None
    path = dataset([record(name)], f"data.{ending}")
    recognised = read_records(path, target_convention=convention)
    assert recognised.format == name
    assert recognised == read_records(path, name, target_convention=convention)
    assert recognised.num_records == 1


@pytest.mark.parametrize(("name", "ending"), TABLES.items())
def test_tables_are_recognised_by_their_columns(record, dataset, name, ending):
    assert read_records(dataset([record(name)], f"data.{ending}")).format == name


def test_wikibio_is_knowedit(record, dataset):
    assert read_records(dataset([record("wikibio")])).format == "knowedit"


def test_bad_records_in_front_do_not_hide_the_format(record, dataset):
    path = dataset([{}, record("known", {"attribute": None}), record("known"), record("known")])
    assert read_records(path, skip_bad=True).format == "known"


def test_an_unknown_format_lists_what_was_considered(dataset):
    path = dataset([{"Corpus": "C4", "Text": "Some text."}])
    with pytest.raises(FactsError) as caught:
        read_records(path)
    text = str(caught.value)
    assert f"{path}: no format that memedit reads; its first record has the fields Corpus, Text" in text
    assert "zsre: no subject, src, alt, answers\n" in text
    assert "knowedit: no subject or concept, prompt or text, target_new or labels\n" in text
    assert "mquake: no requested_rewrite (a list), questions (a list), new_answer\n" in text
    assert all(f"    {name}: no " in text for name in FORMATS)
    assert "--format" in text


def test_the_nearest_format_comes_first(record, dataset):
    with pytest.raises(FactsError) as caught:
        read_records(dataset([record("zsre", {"alt": None, "prompt": "x"})]))
    assert str(caught.value).splitlines()[1] == "    zsre: no alt"


def test_records_that_fit_two_formats_equally_are_the_users_to_name(record, dataset):
    both = {**record("wikibigedit"), **record("known")}
    with pytest.raises(FactsError, match="fit several formats: wikibigedit, known") as caught:
        read_records(dataset([both]))
    assert "--format wikibigedit" in str(caught.value)
    assert read_records(dataset([both]), "known").format == "known"


def test_an_unknown_name_suggests_another(record, dataset):
    with pytest.raises(UsageError) as caught:
        read_records(dataset([record("known")]), "counterfcat")
    assert "unknown format 'counterfcat'\nDid you mean 'counterfact'?" in str(caught.value)
    assert ", ".join(FORMATS) in str(caught.value)


@pytest.mark.parametrize("slip", ["targte", "answer", "target_new"])
def test_a_slip_in_an_own_file_is_named_as_one(record, dataset, slip):
    path = dataset([{"prompt": "The capital of Zubrowka is", slip: "Lutz"}], "facts.jsonl")
    with pytest.raises(FactsError, match="did you mean 'target'"):
        read_records(path)


def test_formats_say_what_they_need():
    for name, each in FORMATS.items():
        assert each.name == name
        assert each.title
        assert each.needs
