"""Retrieval: the right statement stands in front of a prompt, and none in front of others."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from memedit.baselines.retrieval import RetrievalRespondent, StatementIndex


@pytest.fixture
def index(world):
    return StatementIndex(
        [
            world.land_fact(land, city)
            for land, city in zip("Zubrow Genova Mirelle".split(), "Lutz Pera Olmo".split(), strict=True)
        ]
    )


class Reader:
    """Answers with the last word of the statement that it reads, as a model in context would."""

    def answer(self, prompts, **_):
        found = [re.search(r" (\w+)\.\n", prompt) for prompt in prompts]
        return [SimpleNamespace(text=match[1] if match else "unknown") for match in found]

    def score(self, pairs, **_):
        return pairs

    def count_tokens(self, texts):
        return [len(text) for text in texts]


def test_the_statement_of_the_fact_is_found_in_any_wording(index, world):
    for text in (world.PROMPT, world.HELD_OUT, *world.PARAPHRASES):
        assert index.search(text.format("Genova"), 1, 0.2) == ["The capital of Genova is Pera."]


def test_answers_come_from_the_context(index, world):
    asked = RetrievalRespondent(Reader(), index, 1, 0.2)
    told = asked.answer([world.HELD_OUT.format("Mirelle"), "Water boils at"])
    assert [one.text for one in told] == ["Olmo", "unknown"]
    assert asked.score([("Zubrow is ruled from", " Lutz")])[0][0].startswith(
        "The capital of Zubrow is Lutz.\n"
    )
    assert asked.count_tokens(["abc"]) == [3]


def test_a_share_keeps_statements_away_from_other_subjects(index, world):
    other = world.PROMPT.format("France")
    assert index.search(other, 3, 0.0)
    assert index.search(other, 3, 0.5) == []
    assert index.search("?!", 3, 0.0) == []


def test_the_nearest_statement_stands_next_to_the_prompt(index, world):
    asked = RetrievalRespondent(Reader(), index, 3, 0.0)
    prompt = world.PROMPT.format("Zubrow")
    assert asked.told(prompt).split("\n")[-2:] == ["The capital of Zubrow is Lutz.", prompt]


def test_the_text_is_part_of_what_is_shipped(world):
    facts = [world.land_fact(f"{land}ia", "Lutz") for land in "Ab Cd Ef Gh".split()]
    small, large = StatementIndex(facts[:2]).num_bytes(), StatementIndex(facts).num_bytes()
    assert 2 * len("The capital of Abia is Lutz.") < small < large
