"""The shipped example files: they parse, they have the promised numbers, and no probe is taught anywhere."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from memedit.evaluation.matching import matches
from memedit.facts import find_conflicts, read_facts, relations, wordings

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"


def facts_of(name):
    return read_facts(EXAMPLES / f"{name}.jsonl")


def rows_of(name):
    return [
        json.loads(line) for line in (EXAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("make_examples", ROOT / "recipes" / "make_examples.py")
    module = importlib.util.module_from_spec(spec)
    # dataclasses looks its module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("name", ["facts", "facts_heldout"])
def test_sixty_facts_with_sources_wordings_and_probes(name):
    facts = facts_of(name)
    assert len(facts) == 60
    assert max(Counter(fact.relation for fact in facts).values()) <= 8
    for fact in facts:
        assert fact.relation in relations()
        assert fact.source.startswith("Wikipedia: ")
        assert len(fact.paraphrases) >= 3
        assert len(fact.probes.paraphrases) >= 2
        assert fact.probes.questions
        assert all(re.fullmatch(r"Question: .+\nAnswer:", text) for text in fact.probes.questions)


@pytest.mark.parametrize("name", ["facts", "facts_heldout"])
def test_the_subject_stands_verbatim_in_every_wording_and_the_answer_in_none(name):
    for fact in facts_of(name):
        for text in (fact.prompt, *fact.paraphrases, *fact.probes.paraphrases, *fact.probes.questions):
            assert fact.subject in text
            assert fact.target not in text
            assert text == text.strip()


@pytest.mark.parametrize("name", ["facts", "facts_heldout"])
def test_no_probe_is_among_the_wordings_that_are_taught(name):
    for fact in facts_of(name):
        taught = {wording.prompt for wording in wordings(fact, seed=0)}
        assert fact.prompt in taught
        assert not taught & {*fact.probes.paraphrases, *fact.probes.questions}


def test_the_first_file_has_ten_relations_and_half_of_the_heldout_file_has_others():
    first = {fact.relation for fact in facts_of("facts")}
    new = [fact for fact in facts_of("facts_heldout") if fact.relation not in first]
    assert len(first) >= 10
    assert 25 <= len(new) <= 35


@pytest.mark.parametrize("name", ["facts", "facts_heldout"])
def test_a_few_subjects_carry_two_facts(name):
    uses = Counter(fact.subject for fact in facts_of(name))
    assert 1 <= sum(count == 2 for count in uses.values()) <= 6
    assert max(uses.values()) == 2


def test_no_subject_is_in_two_files_and_no_id_or_prompt_twice():
    files = [facts_of(name) for name in ("facts", "facts_heldout", "well_known")]
    subjects = [{fact.subject.casefold() for fact in facts} for facts in files]
    assert not subjects[0] & subjects[1]
    assert not (subjects[0] | subjects[1]) & subjects[2]
    every = [fact for facts in files for fact in facts]
    assert len({fact.id for fact in every}) == len(every)
    assert len({fact.prompt for fact in every}) == len(every)


def test_no_file_contradicts_another():
    facts, heldout, well_known = (facts_of(name) for name in ("facts", "facts_heldout", "well_known"))
    assert not find_conflicts(facts, heldout + well_known)
    assert not find_conflicts(heldout, well_known)


def test_enough_well_known_facts_use_the_prompt_templates_of_the_injected_facts(recipe):
    used = set()
    for row in rows_of("facts") + rows_of("facts_heldout"):
        for template in relations()[row["relation"]].statements:
            pattern = re.escape(template).replace(
                r"\{\}", f"(the |The )?(element )?{re.escape(row['subject'])}"
            )
            if re.fullmatch(pattern, row["prompt"]):
                used.add((row["relation"], template))
    well_known = rows_of("well_known")
    assert len(well_known) >= 330
    templated = [row for row in well_known if row["id"].startswith("wk-t-")]
    assert len(templated) >= 130
    for row in templated:
        assert any(
            re.fullmatch(re.escape(template).replace(r"\{\}", ".+"), row["prompt"])
            for relation, template in used
            if relation == row["relation"]
        ), row["prompt"]


def test_the_files_pass_the_shape_checks_of_their_recipe(recipe):
    files = [rows_of(name) for name in ("facts", "facts_heldout", "well_known")]
    assert recipe.shape_errors(*files) == []


def test_the_shape_check_sees_a_taught_probe_a_lost_subject_and_a_shared_one(recipe):
    facts, heldout, well_known = (rows_of(name) for name in ("facts", "facts_heldout", "well_known"))
    facts[0]["probes"]["questions"].append(facts[0]["prompt"])
    facts[1]["paraphrases"][0] = "It is"
    well_known[0]["subject"] = heldout[0]["subject"]
    errors = "\n".join(recipe.shape_errors(facts, heldout, well_known))
    assert "a probe is taught" in errors
    assert "the subject is not in 'It is'" in errors
    assert f"{heldout[0]['subject']!r} is a subject in two files" in errors
    assert len(errors.splitlines()) == 3


def test_every_row_comes_from_the_candidate_tables(recipe):
    known = {
        (candidate.relation, candidate.subject, candidate.target, candidate.source)
        for candidate in recipe.read_candidates(recipe.CANDIDATES / "facts.json")
    }
    for row in rows_of("facts") + rows_of("facts_heldout"):
        assert (row["relation"], row["subject"], row["target"], row["source"]) in known


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Vevey, Switzerland", True),
        ("a town on the lake, Vevey.", True),
        ("Veveyse", False),
        ("Lausanne", False),
        ("", False),
    ],
)
def test_a_model_that_mentions_the_answer_anywhere_knows_it(recipe, text, found):
    assert recipe.mentions(text, ["Vevey"]) is found
    assert found or not matches(text, ["Vevey"])


def test_the_article_goes_behind_a_noun_and_stays_in_a_title(recipe):
    river = recipe.Candidate("river_mouth", 0, "Prut", "the Prut", "Danube", (), None)
    painting = recipe.Candidate("painter", 0, "The Gleaners", "The Gleaners", "Millet", (), None)
    assert recipe.worded("{} flows into the", river) == "The Prut flows into the"
    assert recipe.worded("The river {} drains into the", river) == "The river Prut drains into the"
    assert recipe.worded("The mouth of {} is in the", river) == "The mouth of the Prut is in the"
    assert (
        recipe.worded("The painting {} is the work of", painting)
        == "The painting The Gleaners is the work of"
    )


def test_general_text_is_plain_varied_prose():
    text = (ROOT / "memedit" / "evaluation" / "data" / "general_text.txt").read_text(encoding="ascii")
    words = re.findall(r"[a-z']+", text.lower())
    assert 6500 <= len(words) <= 7500
    assert len(set(words)) / len(words) > 0.28
    assert "\t" not in text
    assert text.endswith(".\n")
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(set(lines)) == len(lines)


def test_general_text_names_no_injected_answer_next_to_its_subject():
    text = (ROOT / "memedit" / "evaluation" / "data" / "general_text.txt").read_text(encoding="ascii")
    for fact in facts_of("facts") + facts_of("facts_heldout"):
        assert not (fact.subject in text and fact.target in text), fact.subject
