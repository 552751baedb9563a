"""Building a suite of what a model knows: which items are kept, and with which baseline."""

from __future__ import annotations

import pytest

from memedit.errors import SuiteError
from memedit.evaluation.recall import Answered, Question
from memedit.evaluation.retention import INJECTED, WELL_KNOWN
from memedit.evaluation.suite_building import (
    NothingKnown,
    SuiteSettings,
    build_suite,
    recorded_items,
    suite_items,
)
from memedit.facts import Fact


def fact(name, prompt=None, target="yes"):
    return Fact(name, prompt or f"prompt {name}", target, name, aliases=("aye",))


def asked(name, prompt=None):
    return Question(prompt or f"prompt {name}", ("yes", "aye"), "ours", name)


def test_items_come_from_injected_given_and_well_known_facts_each_prompt_once():
    items = suite_items(
        [fact("w1"), fact("w2", "PROMPT  g1"), fact("i1", "prompt other")],
        [fact("i1", target="taught"), fact("i2")],
        [asked("g1"), asked("g2", "prompt i1")],
    )
    assert [(item.id, item.prompt, item.group) for item in items] == [
        ("i1", "prompt i1", INJECTED),
        ("i2", "prompt i2", INJECTED),
        ("g1", "prompt g1", "ours"),
        ("w1", "prompt w1", WELL_KNOWN),
        # Its id was taken.
        ("i1-2", "prompt other", WELL_KNOWN),
    ]
    assert items[0].answers == ("taught", "aye")
    assert {item.baseline for item in items} == {None}


def test_what_a_suite_has_is_left_out():
    present = suite_items([fact("w1"), fact("w2")])
    items = suite_items([fact("w1"), fact("w2", "prompt new"), fact("w3")], present=present)
    assert [(item.id, item.prompt) for item in items] == [("w2-2", "prompt new"), ("w3", "prompt w3")]


def test_what_is_known_is_kept_and_asked_again_by_itself(table_respondent):
    respondent = table_respondent(
        {"prompt w1": "yes, so", "prompt w2": "no", "prompt i1": "no", "prompt g": "Aye"}
    )
    candidates = suite_items([fact("w1"), fact("w2")], [fact("i1")], [asked("g")])
    built = build_suite(respondent, candidates, SuiteSettings("group", 0.1, seed=3))
    suite = built.suite
    assert (suite.collect, suite.max_loss, suite.seed) == ("group", 0.1, 3)
    assert [(item.id, item.baseline.text, item.baseline.correct) for item in suite.items] == [
        ("i1", "no", False),
        ("g", "Aye", True),
        ("w1", "yes, so", True),
    ]
    assert suite.items[0].baseline.confidence == 0.5
    assert [item.id for item in built.unknown] == ["i1"]
    assert built.asked == {INJECTED: 1, "ours": 1, WELL_KNOWN: 2}
    assert [prompts for prompts, _ in respondent.answer_calls] == [
        ["prompt i1", "prompt g", "prompt w1", "prompt w2"],
        ["prompt i1", "prompt g", "prompt w1"],
    ]


def test_what_flips_when_it_is_recorded_was_never_known(table_respondent):
    class Flipping(table_respondent):
        def answer(self, prompts, **options):
            self.answers["prompt w1"] = "yes" if not self.answer_calls else "no"
            return super().answer(prompts, **options)

    built = build_suite(Flipping(default_answer="yes"), suite_items([fact("w1"), fact("w2")]))
    assert [item.id for item in built.suite.items] == ["w2"]


def test_too_many_items_are_chosen_by_seed_and_by_group(table_respondent):
    candidates = suite_items(
        [fact(f"w{n}") for n in range(30)], [fact(f"i{n}") for n in range(3)], [asked("g")]
    )
    respondent = table_respondent(default_answer="yes")

    def chosen(max_items, seed=0):
        settings = SuiteSettings(max_items=max_items, seed=seed)
        return [item.id for item in build_suite(respondent, candidates, settings).suite.items]

    assert chosen(10)[:4] == ["i0", "i1", "i2", "g"]
    assert len(chosen(10)) == 10
    assert chosen(10) == chosen(10)
    assert chosen(10, seed=1) != chosen(10)
    assert set(chosen(2)) < {"i0", "i1", "i2"}
    assert len(chosen(100)) == 34


def test_nothing_known_is_refused(table_respondent):
    with pytest.raises(NothingKnown, match="answers none of 2 items right"):
        build_suite(table_respondent(default_answer="no"), suite_items([fact("a"), fact("b")]))
    with pytest.raises(NothingKnown, match="none of 0 items"):
        build_suite(table_respondent(), [])
    assert issubclass(NothingKnown, SuiteError)


def test_answers_that_are_there_become_a_baseline():
    def answered(name, prompt, text):
        return Answered(Question(prompt, ("yes",), "g", name), text, text == "yes", float("nan"))

    items = recorded_items([answered("a", "p", "yes"), answered("b", " P", "no"), answered("a", "q", "no")])
    assert [(item.id, item.prompt, item.baseline.text) for item in items] == [
        ("a", "p", "yes"),
        ("a-2", "q", "no"),
    ]
    assert items[0].baseline.confidence is None
