"""What is taught for a fact: enough, unique, repeatable, and never what is to be evaluated."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.errors import FactsError
from memedit.facts import Fact, context_sentences, facts_from_records, relations, wording_key, wordings
from memedit.facts.questions import lower_opening, questions_from


def one(**record):
    return facts_from_records([record])[0]


CAPITAL = one(prompt="The capital of Zubrowka is", target="Lutz")
TRIPLE = one(subject="the Ostra", relation="river_mouth", target="Black Sea")
QUESTION = one(prompt="What is the IATA code of Zorvath Airport?", target="ZVT")
RICH = one(
    prompt="The Silent Harbor was written by",
    target="Mara Quill",
    subject="The Silent Harbor",
    paraphrases=["The author of The Silent Harbor is", "Readers of The Silent Harbor admire"],
    probes={"questions": ["Question: Who is the author of The Silent Harbor?\nAnswer:"]},
)
RIGHT_TO_LEFT = one(
    prompt="\u0639\u0627\u0635\u0645\u0629 \u0642\u0645\u0631 \u0647\u064a",
    target="x",
    subject="\u0642\u0645\u0631",
)


@pytest.mark.parametrize(
    "fact", [CAPITAL, TRIPLE, QUESTION, RICH, RIGHT_TO_LEFT], ids=lambda fact: fact.subject
)
@pytest.mark.parametrize("seed", [0, 1])
def test_enough_unique_wordings_with_their_subject(fact, seed):
    taught = wordings(fact, seed=seed)
    assert 8 <= len(taught) <= 12
    assert len({wording_key(wording.prompt) for wording in taught}) == len(taught)
    for wording in taught:
        mention = wording.prompt[wording.subject_start : wording.subject_end]
        assert wording_key(mention) in wording_key(fact.subject)
        assert wording.prompt == wording.prompt.strip()
        assert "\nAnswer:" not in wording.prompt


@pytest.mark.parametrize("relation", sorted(relations()))
def test_every_relation_gives_enough_that_is_no_probe(relation):
    fact = one(subject="Zorvath", relation=relation, target="Lutz")
    taught = wordings(fact, seed=3)
    kinds = [wording.kind for wording in taught]
    assert (
        kinds.count("given"),
        kinds.count("statement"),
        kinds.count("question"),
        kinds.count("context"),
    ) == (1, 5, 3, 2)
    keys = {wording_key(wording.prompt) for wording in taught}
    assert keys.isdisjoint(map(wording_key, fact.probes.prompts))


def test_given_wordings_come_first_and_are_all_used():
    paraphrases = [f"Zubrowka number {number} is ruled from" for number in range(15)]
    fact = one(prompt="The capital of Zubrowka is", target="Lutz", paraphrases=paraphrases)
    taught = wordings(fact, seed=0)
    assert [wording.prompt for wording in taught][:16] == list(fact.given_wordings)
    assert {wording.kind for wording in taught[:16]} == {"given"}
    assert {wording.kind for wording in taught[16:]} == {"question", "context"}


def test_same_seed_same_wordings_other_seed_other_wordings():
    assert wordings(CAPITAL, seed=5) == wordings(CAPITAL, seed=5)
    assert wordings(CAPITAL, seed=5) != wordings(CAPITAL, seed=6)


def test_wordings_do_not_depend_on_the_process():
    code = (
        "from memedit.facts import *\n"
        "f = facts_from_records([{'prompt': 'The capital of Zubrowka is', 'target': 'Lutz'}])\n"
        "print([w.prompt for w in wordings(f[0], seed=5)], look_alikes(f, num=5, seed=5))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert repr(wordings(CAPITAL, seed=5)[-1].prompt)[1:-1] in outputs.pop()


@pytest.mark.parametrize("num", [0, 1, 2, 6])
def test_number_of_contexts(num):
    taught = wordings(CAPITAL, seed=0, num_contexts=num)
    fronts = [wording.prompt for wording in taught if wording.kind == "context"]
    assert len(fronts) == num
    assert all(text.startswith(context_sentences()) for text in fronts)


def test_a_held_out_question_is_not_taught_in_another_frame():
    asked = [wording.prompt for wording in wordings(RICH, seed=0) if wording.kind == "question"]
    assert len(asked) == 3
    assert not any("Who is the author" in text for text in asked)


def test_questions_are_asked_in_frames_of_one_and_two_lines():
    asked = [wording.prompt for wording in wordings(CAPITAL, seed=0) if wording.kind == "question"]
    assert [text.count("\n") for text in asked] == [0, 1, 1]
    assert asked[0].endswith("? A:")
    assert asked[1].startswith("Q: ")
    assert not any("Q: Q:" in text or text.startswith("Question:") for text in asked)


def test_a_made_wording_that_is_a_probe_is_left_out():
    probe = "It is known that the capital of Zubrowka is"
    fact = one(prompt="The capital of Zubrowka is", target="Lutz", probes={"paraphrases": [probe]})
    for seed in range(10):
        assert probe not in [wording.prompt for wording in wordings(fact, seed=seed)]


def test_wording_without_subject_is_an_error():
    with pytest.raises(FactsError, match="does not contain its subject"):
        wordings(Fact(id="a", prompt="The capital is", target="Lutz", subject="Zubrowka"), seed=0)


def test_the_article_of_the_prompt_is_kept():
    fact = one(
        prompt="The family of the wigostin is", target="x", subject="wigostin", relation="species_family"
    )
    made = [wording.prompt for wording in wordings(fact, seed=0) if wording.kind in ("statement", "question")]
    assert all("the wigostin" in text.lower() for text in (*made, *fact.probes.paraphrases))
    bare = one(prompt="Caffeine belongs to", target="x", subject="Caffeine", relation="species_family")
    assert not any("the Caffeine" in text for text in bare.probes.paraphrases)


def test_last_mention_counts():
    fact = one(prompt="Zubrowka, yes Zubrowka, has the capital", target="Lutz", subject="Zubrowka")
    assert wordings(fact, seed=0)[0].subject_start == 14


@pytest.mark.parametrize(
    ("text", "subject", "lowered"),
    [
        ("The capital of X is", "X", "the capital of X is"),
        ("In X, people pay", "X", "in X, people pay"),
        ("Zubrowka is", "Zubrowka", "Zubrowka is"),
        ("The Beatles are", "The Beatles", "The Beatles are"),
        ("The Beatles are", "the Beatles", "the Beatles are"),
        ("iPhone 15 is", "iPhone 15", "iPhone 15 is"),
        ("Theodor is", "Theodor", "Theodor is"),
        ("\u00c9mile is", "\u00c9mile", "\u00c9mile is"),
    ],
)
def test_lower_case_of_opening_words_only(text, subject, lowered):
    assert lower_opening(text, subject) == lowered


@pytest.mark.parametrize(
    ("statement", "question"),
    [
        ("The capital of Zor is", "Q: What is the capital of Zor? A:"),
        ("The author of Zor is", "Q: Who is the author of Zor? A:"),
        ("The currency of Zor is the", "Q: What is the currency of Zor? A:"),
        ("The person who wrote Zor is", "Q: Who is the person who wrote Zor? A:"),
        ("Zor was written by", "Q: Zor was written by whom? A:"),
        ("Zor is made by", "Q: Zor is made by which company? A:"),
        ("The town of Zor is located in", "Q: Where is the town of Zor located? A:"),
        ("Zor was born in the city of", "Q: Where was Zor born? A:"),
        ("Zor was born in", "Q: Zor was born in what? A:"),
        ("Zor was first released in the year", "Q: In which year was Zor first released? A:"),
        ("Zor flows into the", "Q: Zor flows into what? A:"),
        ("Zor lies in the country of", "Q: Zor lies in which country? A:"),
        ("The Zor is", "Q: The Zor is what? A:"),
        ("Who wrote Zor?", "Q: Who wrote Zor? A:"),
        ("Question: Who wrote Zor?\nAnswer:", "Q: Who wrote Zor? A:"),
        ("Zor =", "Q: Complete: Zor = ... A:"),
    ],
)
def test_questions_made_from_statements(statement, question):
    subject = "The Zor" if statement.startswith("The Zor") else "Zor"
    assert questions_from([statement], subject)[0] == question


@settings(deadline=None)
@given(
    st.text(st.characters(categories=("L", "N", "M", "P")), min_size=1, max_size=30),
    st.text(max_size=60),
    st.integers(0, 9),
)
def test_any_fact_has_wordings(subject, rest, seed):
    fact = Fact(id="a", prompt=f"About {subject} {rest}", target="x", subject=subject)
    taught = wordings(fact, seed=seed)
    assert taught[0].prompt == fact.prompt
    assert len(taught) >= 4
    for wording in taught:
        assert 0 <= wording.subject_start < wording.subject_end <= len(wording.prompt)
