"""Abstaining: what is given, what is withheld, what that is worth, and that it is measured once per state."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import small_world

from memedit.editor import abstaining
from memedit.editor.abstaining import abstained, worth_of_abstention
from memedit.editor.evaluating import BASE, CURRENT
from memedit.editor.results import AbstentionWorth, Answer, OpenGate, RestsOn
from memedit.errors import UsageError
from memedit.evaluation.generation import Generation
from memedit.evaluation.scoring import Scored
from memedit.facts import Fact
from memedit.store import StoredFact

KNOWN = [
    Fact(f"known-{index}", f"Known {index} is", f"right {index}", f"Known {index}") for index in range(60)
]
LANDS = "Borvia Kelmar Tassin Dromund Uvaria Penzor Quelia Mardok Sylene Fendal".split()
TAUGHT = [
    Fact(f"taught-{index}", f"The capital of {land} is", f"Lutz{index}", land)
    for index, land in enumerate(LANDS)
]


class Table:
    """A state of the model that answers and scores by a rule; counts how often it is asked."""

    def __init__(self, answer, score):
        self.rule, self.scoring, self.num_asked = answer, score, 0

    def answer(self, prompts, *, max_new_tokens=16, description=""):
        self.num_asked += 1
        return [Generation(self.rule(prompt), (1,), 0.5, "eos") for prompt in prompts]

    def score(self, pairs, *, description=""):
        self.num_asked += 1
        return [Scored(self.scoring(*pair), 1, 1) for pair in pairs]


class World:
    """States of a model whose base knows KNOWN and whose edits taught TAUGHT."""

    def __init__(self, facts=TAUGHT):
        self.known = {fact.prompt: fact for fact in KNOWN}
        self.taught = {fact.prompt: fact for fact in facts}
        self.base = Table(lambda prompt: self.said(prompt, self.known), self.base_score)
        self.current = Table(lambda prompt: self.said(prompt, {**self.known, **self.taught}), None)
        self.cache, self.identity_of, self.remembering = {}, "state", []
        self.opened = SimpleNamespace(model=None, tokenizer=None)
        self.store = SimpleNamespace(
            facts=lambda: [StoredFact(fact, {"status": "learned"}, "e1", active=True) for fact in facts],
            read_cache=self.cache.get,
            write_cache=self.cache.__setitem__,
        )

    def said(self, prompt, facts):
        for fact in facts.values():
            if fact.prompt == prompt or fact.subject in prompt.split():
                return fact.target
        return "Europe" if "Known" in prompt else "a town"

    def base_score(self, prompt, text):
        fact = self.known.get(prompt)
        if fact is not None and text == f" {fact.target}":
            return -0.5
        # Of the taught, the base model knows only that a capital is asked for.
        return -4.0 if "capital" in prompt else -12.0

    def respondent(self, name, remember=True):
        self.remembering.append(remember)
        return {BASE: self.base, CURRENT: self.current}[name]

    def identity(self, name):
        return f"{self.identity_of}/{name}"

    def worn(self, name):
        return pytest.MonkeyPatch.context()


@pytest.fixture
def world(monkeypatch):
    """A world, and gates that open for every taught subject in a prompt."""
    made = World()
    monkeypatch.setattr(abstaining, "well_known_facts", lambda: KNOWN)
    heard = lambda model, tokenizer, prompts: [  # noqa: E731
        frozenset(fact.subject for fact in TAUGHT if fact.subject in prompt) for prompt in prompts
    ]
    monkeypatch.setattr(abstaining, "subjects_heard", heard)
    return made


def answer(prompt, text, *, subject=None, in_answer=False):
    """An answer, resting on a fact of a subject if one is given."""
    gates = (OpenGate("an", in_answer=in_answer, mass=0.8, threshold=0.4),)
    facts = (
        ()
        if subject is None
        else (
            RestsOn(
                "e1", "f", prompt, text, subject, 1.0, 0.8, 0.4, "whole", 1.0, states_target=True, gates=gates
            ),
        )
    )
    return Answer(prompt, text, 0.9, subject, 0.8, facts, None)


def given(world, *arguments, **options):
    return abstained(world, answer(*arguments, **options), target_precision=0.9)


def test_what_the_base_model_knows_is_given(world):
    found = given(world, KNOWN[0].prompt, KNOWN[0].target)
    assert (found.text, found.abstention.support, found.abstention.withheld) == ("right 0", "base", None)
    assert found.abstention.score >= found.abstention.worth.base.threshold


def test_a_single_question_leaves_nothing_in_the_cache_but_the_calibration(world):
    given(world, KNOWN[0].prompt, KNOWN[0].target)
    assert world.remembering[-1] is False
    assert len(world.cache) == 1


def test_what_a_stored_fact_states_is_given(world):
    fact = TAUGHT[3]
    found = given(world, fact.prompt, fact.target, subject=fact.subject)
    assert (found.text, found.abstention.support) == (fact.target, "memory")


@pytest.mark.parametrize(
    ("prompt", "text", "options"),
    [
        ("Known nobody is", "Europe", {}),
        # The gate opened in the answer only, or for nobody.
        (TAUGHT[3].prompt, TAUGHT[3].target, {"subject": TAUGHT[3].subject, "in_answer": True}),
        (TAUGHT[3].prompt, TAUGHT[3].target, {}),
        # The fact is stated where something else was asked.
        ("The weight of Dromund is", TAUGHT[3].target, {"subject": TAUGHT[3].subject}),
        # The subject was heard, but another answer came.
        (TAUGHT[3].prompt, "a town", {"subject": TAUGHT[3].subject}),
        (KNOWN[0].prompt, "", {}),
        (KNOWN[0].prompt, "I do not know", {}),
    ],
)
def test_what_nothing_supports_is_withheld(world, prompt, text, options):
    found = given(world, prompt, text, **options)
    assert found.text == "I don't know"
    assert (found.abstention.support, found.abstention.withheld) == (None, text)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["abstention"]["withheld"] == text


def test_the_worth_is_counted_on_what_did_not_choose_the_threshold(world):
    worth = worth_of_abstention(world)
    assert worth.base.reached
    # Every known fact scores -0.5 and more, nothing else does.
    assert worth.base.precision.value == worth.base.right_kept.value == 1.0
    assert worth.base.coverage.n < 120
    # Ten taught facts are right and stated, their ten look-alikes are not.
    assert (worth.memory_precision.value, worth.memory_precision.n) == (1.0, 10)
    assert worth.coverage.n == worth.base.coverage.n + 20
    assert worth.precision.n == worth.base.precision.n + 10
    assert (worth.other_relation.value, worth.other_relation.n) == (0.0, 10)


def test_facts_stated_for_another_relation_are_counted(world, monkeypatch):
    monkeypatch.setattr(world.base, "scoring", lambda prompt, text: -1.0)
    assert worth_of_abstention(world).other_relation.value == 1.0


def test_nothing_learned_leaves_the_base_model(world, monkeypatch):
    world.store.facts = list
    worth = worth_of_abstention(world)
    assert worth.memory_precision.n == worth.other_relation.n == 0
    assert worth.coverage.n == worth.base.coverage.n
    assert json.dumps(worth.to_json(), allow_nan=False)


def test_a_state_is_calibrated_once(world):
    first = worth_of_abstention(world)
    asked = world.base.num_asked, world.current.num_asked
    assert worth_of_abstention(world).to_json() == first.to_json()
    assert (world.base.num_asked, world.current.num_asked) == asked
    worth_of_abstention(world, target_precision=0.8)
    world.identity_of = "another state"
    worth_of_abstention(world)
    assert world.current.num_asked == 3 * asked[1]


def test_a_damaged_entry_is_measured_again(world):
    first = worth_of_abstention(world).to_json()
    (name,) = world.cache
    world.cache[name] = {"base": {}}
    assert worth_of_abstention(world).to_json() == first
    with pytest.raises(ValueError, match="damaged"):
        AbstentionWorth.from_json({"base": {}})


def test_where_nothing_is_known_everything_is_withheld(world):
    world.base.rule = lambda prompt: "nonsense"
    found = given(world, KNOWN[0].prompt, KNOWN[0].target)
    assert found.text == "I don't know"
    assert found.abstention.worth.base.threshold == math.inf
    assert not found.abstention.worth.base.reached


def test_the_editor_refuses_what_cannot_be(editor):
    with pytest.raises(UsageError, match="without='e1'"):
        editor.ask("Anything", abstain=True, without="e1")
    for precision in (0, 1, -1, 2.0):
        with pytest.raises(UsageError, match=f"between 0 and 1, got {precision}"):
            editor.ask("Anything", abstain=True, precision=precision)


def test_an_editor_abstains_on_its_own_model(editor, monkeypatch):
    monkeypatch.setattr(abstaining, "well_known_facts", small_world.known_facts)
    asked = [small_world.PROMPT.format(land) for land in (*small_world.LANDS[:2], "Qxv")]
    answers = [editor.ask(prompt, abstain=True) for prompt in asked]
    for found in answers:
        plain = editor.ask(found.prompt)
        assert found.abstention.withheld == (None if found.abstention.support else plain.text)
        assert found.text == (plain.text if found.abstention.support else "I don't know")
    worth = answers[0].abstention.worth
    assert worth.base.coverage.n > 0
    assert worth.memory_precision.n == 0
