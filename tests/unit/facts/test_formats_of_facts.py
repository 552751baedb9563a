"""Formats that hold facts: what each field becomes, and that the facts can be taught."""

from __future__ import annotations

import time

import pytest

from memedit.facts import MultiHop, Probe, Probes, facts_from_records, read_records, subject_span, wordings
from memedit.facts.formats import FORMATS

TAUGHT = [
    "memedit",
    "counterfact",
    "counterfact_compact",
    "zsre",
    "knowedit",
    "mquake",
    "wikibigedit",
    "known",
]


@pytest.fixture
def read(dataset):
    """The facts of records in one file."""
    return lambda *records, **options: read_records(dataset(list(records)), **options).facts


def test_counterfact(read, record):
    (fact,) = read(record("counterfact"))
    assert (fact.prompt, fact.target, fact.subject) == ("The capital of Zubrowka is", "Lutz", "Zubrowka")
    assert (fact.replaces, fact.relation, fact.source) == ("Nebelsbad", "P36", "CounterFact, case 7")
    assert fact.probes == Probes(
        paraphrases=("It rained.\nZubrowka is governed from", "The seat of Zubrowka is"),
        locality=(
            Probe("The capital of Ostria is", "Nebelsbad", kind="neighborhood"),
            Probe("Ostria is governed from", "Nebelsbad", kind="neighborhood"),
        ),
    )


def test_counterfact_with_plain_answers(read, record):
    changes = {"requested_rewrite.target_new": "Lutz", "requested_rewrite.target_true": "Nebelsbad"}
    assert read(record("counterfact", changes)) == read(record("counterfact"))


def test_counterfact_fills_the_template_to_the_letter(read, record, renamed):
    (fact,) = read(
        renamed(record("counterfact", {"requested_rewrite.prompt": "{}, the"}), "Zubrowka", "k.d. lang")
    )
    assert fact.prompt == "k.d. lang, the"


def test_compact_counterfact_is_the_same_fact(read, record):
    (compact,), (full,) = read(record("counterfact_compact")), read(record("counterfact"))
    assert compact.id == full.id
    assert compact.replaces == full.replaces
    assert compact.probes.paraphrases == ("Zubrowka is governed from",)
    assert compact.probes.locality == full.probes.locality[:1]


def test_zsre_alt_teaches_the_other_answer(read, record):
    (fact,) = read(record("zsre"), target_convention="alt")
    assert (fact.prompt, fact.target, fact.aliases) == ("Q: Who wrote Gravel Moon? A:", "Tom Hale", ())
    assert fact.replaces == "Mara Quill"
    assert fact.probes == Probes(
        paraphrases=("Q: Who is the author of Gravel Moon? A:",),
        locality=(Probe("Q: who sang at the opening of the dam? A:", "Ada Bell"),),
    )


def test_zsre_answers_teaches_the_true_answer(read, record):
    (fact,) = read(record("zsre"), target_convention="answers")
    assert (fact.answers, fact.replaces) == (("Mara Quill", "M. Quill"), None)


def test_zsre_replaces_nothing_where_both_answers_are_one(read, record):
    (fact,) = read(record("zsre", {"alt": "mara quill"}), target_convention="alt")
    assert (fact.target, fact.replaces) == ("mara quill", None)


def test_knowedit(read, record):
    (fact,) = read(record("knowedit"))
    assert fact.prompt == "The name of the country which Lac Otil is in is"
    assert (fact.target, fact.subject, fact.replaces) == ("Ostria", "Lac Otil", "Maldor")
    assert fact.probes == Probes(
        paraphrases=("Lac Otil lies in",),
        portability=(
            Probe("The currency of the country of Lac Otil is", "crown", ("kr", "mark"), "reasoning"),
            Probe("Q: Is Lac Otil in Ostria? A:", "Yes", (), "logical_generalization"),
            Probe("The Otil water is in", "Ostria", ("Ostrian Realm",), "subject_aliasing"),
        ),
        locality=(
            Probe("The length of Lac Otil is", "12 km", (), "relation_specificity"),
            Probe("The fish of Lac Otil is", None, (), "relation_specificity"),
            Probe(
                "The name of the country in which Lac Brom is, which is not Ostria, is",
                "Maldor",
                (),
                "forgetfulness",
            ),
            Probe("Lac Brom has", "two islands", (), "forgetfulness"),
            Probe("Lac Brom lies in", "Maldor"),
        ),
    )


def test_knowedit_wikibio_has_a_concept_a_text_and_labels(read, record):
    (fact,) = read(record("wikibio"))
    assert (fact.subject, fact.prompt) == ("mara quill", "This is a passage about mara quill.")
    assert fact.target == "Mara Quill (born 1911) was a novelist from Ostria."
    assert fact.probes.locality[0].answers == ("Tom Hale",)


@pytest.mark.parametrize("empty", [{}, [], None])
def test_knowedit_without_probes(read, record, empty):
    (fact,) = read({**record("knowedit"), "portability": empty or {}, "locality": {"Forgetfulness": empty}})
    assert fact.probes.portability == fact.probes.locality == ()


def test_knowedit_probes_without_kinds(read, record):
    changes = {"portability": {"prompt": "The Otil water is in", "ground_truth": "Ostria"}}
    (fact,) = read(record("knowedit", changes))
    assert fact.probes.portability == (Probe("The Otil water is in", "Ostria"),)


@pytest.mark.parametrize(
    "answers", ["Ostria", ["Ostria", "Ostrian Realm"], [["Ostria"], [["Ostrian Realm"]]]]
)
def test_knowedit_targets_in_any_nesting(read, record, answers):
    (fact,) = read(record("knowedit", {"target_new": answers}))
    assert fact.answers in (("Ostria",), ("Ostria", "Ostrian Realm"))
    assert len(fact.answers) == (1 if answers == "Ostria" else 2)


def test_mquake_has_one_fact_a_rewrite_and_counts_its_question_once(read, record):
    first, second = read(record("mquake"))
    assert (first.prompt, first.answers) == ("The author of Gravel Moon is", ("Tom Hale", "T. Hale"))
    assert (second.prompt, second.answers) == ("Tom Hale is a citizen of", ("Ostria",))
    assert (first.replaces, second.replaces) == ("Mara Quill", "Maldor")
    assert first.probes.questions == ("Question: Who is the author of Gravel Moon?\nAnswer:",)
    prompts = tuple(f"Q: {text} A:" for text in record("mquake")["questions"])
    assert first.probes.multi_hop == (MultiHop(prompts, "Ostria", ("the Ostrian Realm",)),)
    assert second.probes.multi_hop == ()


def test_mquake_rewrites_that_come_again_are_merged_with_their_questions(read, record):
    again = record("mquake", {"questions": ["Whose citizen is the author of Gravel Moon?"]})
    path_facts = read(record("mquake"), again)
    assert len(path_facts) == 2
    assert [len(question.prompts) for question in path_facts[0].probes.multi_hop] == [3, 1]


def test_wikibigedit(read, record):
    (fact,) = read(record("wikibigedit"))
    assert (fact.prompt, fact.target) == ("Q: Which party is Mara Quill a member of? A:", "Ostrian Greens")
    assert fact.probes == Probes(
        paraphrases=(
            "Q: What party does Mara Quill belong to? A:",
            "Q: Say, what's Mara Quill's party? A:",
            "Q: Kindly name the party of Mara Quill. A:",
        ),
        locality=(Probe("Q: Which party is Tom Hale a member of? A:", "none"),),
        multi_hop=(MultiHop(("Q: Who founded the party of Mara Quill? A:",), "Ada Bell"),),
    )


@pytest.mark.parametrize("gap", ["null", "NaN", '""'])
def test_wikibigedit_without_a_hop(record, dataset, gap):
    path = dataset([record("wikibigedit", {"mhop": "GAP", "mhop_ans": "GAP"})])
    path.write_text(path.read_text().replace('"GAP"', gap))
    (fact,) = read_records(path).facts
    assert fact.probes.multi_hop == ()
    assert len(fact.probes.paraphrases) == 3


def test_known(read, record):
    (fact,) = read(record("known"))
    assert (fact.prompt, fact.target, fact.relation) == ("Lac Otil is located in", "Ostria", "P17")


def test_memedits_own(read, record):
    assert read(record("memedit")) == tuple(facts_from_records([record("memedit")]))


@pytest.mark.parametrize("name", TAUGHT)
def test_facts_can_be_taught(read, record, name):
    conventions = [convention for convention, _ in FORMATS[name].target_conventions] or [None]
    for convention in conventions:
        facts = read(record(name), target_convention=convention)
        assert facts_from_records(facts) == list(facts)
        for fact in facts:
            assert subject_span(fact.prompt, fact.subject)
            assert fact.prompt == fact.prompt.strip()
            taught = {wording.prompt for wording in wordings(fact, seed=0)}
            assert len(taught) >= 8
            assert taught.isdisjoint(fact.probes.prompts)


def test_every_format_is_tested_here_or_as_questions():
    asked = {"nq_open", "triviaqa", "popqa", "simpleqa", "truthfulqa", "selfaware"}
    assert set(FORMATS) == {*TAUGHT, *asked}


def test_hundreds_of_hops_of_one_rewrite_can_be_taught(read, record):
    hops = [record("mquake", {"questions": [f"Question {number}?"]}) for number in range(300)]
    facts = read(*hops)
    assert len(facts[0].probes.multi_hop) == 300
    assert facts_from_records(facts) == list(facts)


def test_3000_records_of_counterfact_are_read_in_two_seconds_of_one_processor(record, renamed, dataset):
    changes = {"neighborhood_prompts": [f"The capital of Land{number} is" for number in range(10)]}
    records = [
        renamed(record("counterfact", changes), "Zubrowka", f"Zubrowka {number}") for number in range(3_000)
    ]
    path = dataset(records)
    started = time.process_time()
    assert len(read_records(path).facts) == 3_000
    assert time.process_time() - started < 2
