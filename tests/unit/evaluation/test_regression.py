"""The regression test of a suite, on a respondent that answers from a table: every number is known."""

from __future__ import annotations

import json
import math
import random

import pytest

from memedit.evaluation.regression import ALL_GROUPS, run_suite
from memedit.evaluation.statistics import binomial_tail, wilson_interval
from memedit.evaluation.suite_cases import case_names, cases_of
from memedit.evaluation.suites import GivenAnswer, Suite, SuiteItem

RIGHT, WRONG = GivenAnswer("yes", correct=True), GivenAnswer("no", correct=False)


def items(num, group="known", baseline=RIGHT):
    return tuple(SuiteItem(f"{group}-{n}", f"{group} {n}", ("yes",), group, baseline) for n in range(num))


@pytest.fixture
def run(table_respondent):
    """Run a suite on a model that answers "yes" but for the items named, which it answers "no"."""

    def ran(suite, *lost, **options):
        answers = {item.prompt: "no" if item.id in lost else "yes, indeed" for item in suite.items}
        return run_suite(table_respondent(answers), suite, **options)

    return ran


def names(num, group="known"):
    return [f"{group}-{n}" for n in range(num)]


def test_everything_kept(run):
    result = run(Suite(items(10)))
    assert result.passed
    assert result.reasons == ()
    assert (result.metric.value, result.metric.n) == (1.0, 10)
    assert result.overall.p_value == 1.0
    assert {case.outcome for case in cases_of(result)} == {"passed"}


def test_numbers_by_hand(run):
    suite = Suite((*items(170), *items(3, "new", WRONG), *items(2, "must", None)), max_loss=0.02)
    result = run(suite, *names(8), "new-0", "must-1")
    overall = result.overall
    assert (overall.name, overall.retention.right_before, len(result.lost)) == (ALL_GROUPS, 172, 9)
    assert overall.p_value == binomial_tail(9, 172, 0.02)
    assert overall.retention.gained == 2
    assert (result.metric.low, result.metric.high) == wilson_interval(163, 172)
    known, new, must = result.groups
    assert (known.p_value, known.significance) == (binomial_tail(8, 170, 0.02), 0.05 / 3)
    assert (new.retention.right_before, new.retention.gained, new.p_value) == (0, 2, 1.0)
    assert must.p_value == pytest.approx(1 - 0.98**2)
    assert [group.passed for group in (overall, known, new, must)] == [False, True, True, True]
    p_value = f"{overall.p_value:.2g}"
    said = f"all groups: 9 of 172 lost (5.2%), more than the allowed 2.0% (p = {p_value}, limit 0.05)"
    assert result.reasons == (said,)
    before = {change.question.fact_id: (change.before, change.after) for change in result.lost}
    assert before["known-0"] == ("yes", "no")
    assert before["must-1"] == ("", "no")


@pytest.mark.parametrize(("lost", "passed"), [(0, True), (5, True), (7, True), (8, False), (170, False)])
def test_the_verdict_is_the_gates(run, lost, passed):
    assert run(Suite(items(170)), *names(lost)).passed is passed


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (0, "0 of 100 lost (0.0%), within the allowed 2.0%"),
        (2, "2 of 100 lost (2.0%), within the allowed 2.0%"),
        (3, "3 of 100 lost (3.0%), not significantly more than the allowed 2.0%"),
        (6, "6 of 100 lost (6.0%), more than the allowed 2.0%"),
    ],
)
def test_the_verdict_in_words(run, lost, said):
    assert f"all groups: {said} (p = " in run(Suite(items(100)), *names(lost)).overall.describe()


@pytest.mark.parametrize(
    ("limits", "options", "passed"),
    [
        ({}, {}, True),
        ({}, {"max_loss": 0.0}, False),
        ({"max_loss": 0.0}, {}, False),
        ({"max_loss": 0.0}, {"max_loss": 0.5}, True),
        ({"group_max_loss": {"known": 0.0}}, {}, False),
        # A group's own limit is not overridden.
        ({"group_max_loss": {"known": 0.0}}, {"max_loss": 1.0}, False),
        ({"group_max_loss": {"other": 0.0}}, {}, True),
    ],
)
def test_limits(run, limits, options, passed):
    suite = Suite((*items(30), *items(30, "other")), **limits)
    assert run(suite, "known-3", **options).passed is passed


def test_a_group_can_fail_although_all_together_do_not(run):
    suite = Suite((*items(500), *items(6, "ours")), collect="group")
    result = run(suite, *names(3, "ours"))
    assert [group.passed for group in (result.overall, *result.groups)] == [True, True, False]
    assert [(case.name, case.outcome) for case in cases_of(result)] == [
        ("known", "passed"),
        ("ours", "failed"),
        (ALL_GROUPS, "passed"),
    ]


def test_a_loss_spread_over_the_groups_fails_all_together(run):
    groups = [items(40, f"g{n}") for n in range(6)]
    result = run(Suite(sum(groups, ()), collect="group"), *(f"g{n}-{i}" for n in range(6) for i in range(2)))
    assert [group.passed for group in result.groups] == [True] * 6
    assert not result.overall.passed
    assert [case.name for case in cases_of(result) if case.outcome == "failed"] == [ALL_GROUPS]


def test_one_case_for_each_fact(run):
    suite = Suite((*items(60), *items(3, "new", WRONG)))
    result = run(suite, "known-4", "new-1")
    outcomes = {case.name: case.outcome for case in cases_of(result)}
    assert tuple(outcomes) == case_names(suite)
    assert outcomes.pop("known-4") == "tolerated"
    assert outcomes.pop("new-1") == "not_known"
    assert set(outcomes.values()) == {"passed"}
    failing = {case.name: case for case in cases_of(run(suite, *names(6)))}
    assert [name for name, case in failing.items() if case.outcome == "failed"] == names(6)
    detail = failing["known-0"].detail()
    assert "6 of 60 lost (10.0%), more than the allowed 2.0%" in detail
    assert (
        "'known 0'\n    expected  'yes'\n    before    'yes'\n    now       'no'  (confidence 0.50)" in detail
    )
    assert failing["known-0"].title == "known 0 [known-0]"


@pytest.mark.parametrize("collect", ["fact", "group"])
@pytest.mark.parametrize("lost", [0, 1, 2, 3, 5, 20])
def test_a_case_fails_exactly_when_the_suite_does(run, collect, lost):
    suite = Suite((*items(20), *items(20, "other")), collect=collect)
    result = run(suite, *names(lost))
    cases = cases_of(result)
    assert tuple(case.name for case in cases) == case_names(suite)
    assert any(case.outcome == "failed" for case in cases) is not result.passed


def test_one_group_makes_one_case(run):
    suite = Suite(items(5), collect="group")
    assert case_names(suite) == ("known",)
    (case,) = cases_of(run(suite, *names(5)))
    assert (case.outcome, len(case.items), case.title) == ("failed", 5, "known")


def test_everything_forgotten_and_a_model_that_says_nothing(table_respondent):
    suite = Suite(items(12))
    result = run_suite(table_respondent(default_answer=""), suite)
    assert not result.passed
    assert (result.metric.value, result.overall.p_value) == (0.0, pytest.approx(0.02**12))
    assert {change.after for change in result.lost} == {""}


def test_a_broken_models_numbers_are_none(run, monkeypatch):
    suite = Suite(items(2))

    class Broken:
        def answer(self, prompts, **_):
            from memedit.evaluation.generation import Generation

            return [Generation("!", (1,), math.nan, "length") for _ in prompts]

        def count_tokens(self, texts):
            return [1 for _ in texts]

    result = run_suite(Broken(), suite)
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["lost"][0]["now"]["confidence"] is None


def test_noise_does_not_fail_and_a_real_loss_does(run):
    # Answers that flip by chance, a fourth as often as is allowed, and a loss of twice what is allowed.
    suite = Suite((*items(400), *items(100, "ours")))
    ids = [item.id for item in suite.items]
    noise = [random.Random(seed).choices(ids, k=round(0.005 * len(ids))) for seed in range(20)]
    assert [run(suite, *lost).passed for lost in noise] == [True] * 20
    losses = [random.Random(seed).sample(ids, round(0.04 * len(ids))) for seed in range(20)]
    assert [run(suite, *lost).passed for lost in losses] == [False] * 20


def test_false_alarms_stay_below_what_is_claimed(run):
    # Exact: each item is lost with just the allowed probability, overall and in each of two groups.
    suite = Suite((*items(150), *items(150, "b")))
    overall = [lost for lost in range(301) if binomial_tail(lost, 300, 0.02) < 0.05]
    group = [lost for lost in range(151) if binomial_tail(lost, 150, 0.02) < 0.025]
    assert not run(suite, *names(group[0])).passed
    assert run(suite, *names(group[0] - 1)).passed
    alarm = binomial_tail(overall[0], 300, 0.02) + 2 * binomial_tail(group[0], 150, 0.02)
    assert alarm < 0.1


def test_everything_is_asked_in_one_pass_but_for_longer_answers(table_respondent):
    long = SuiteItem("long", "recite", (" ".join(["word"] * 20),), "known", RIGHT)
    respondent = table_respondent(default_answer="yes")
    run_suite(respondent, Suite((*items(3), long)))
    assert respondent.answer_calls == [(["known 0", "known 1", "known 2"], 16), (["recite"], 32)]


def test_a_senseless_limit_is_refused(run):
    with pytest.raises(ValueError, match="max_loss must lie between 0 and 1"):
        run(Suite(items(1)), max_loss=1.5)


def test_json_has_everything(run):
    found = run(Suite((*items(30), *items(2, "new", WRONG))), "known-0", "new-0").to_json()
    assert set(found) == {"passed", "reasons", "overall", "groups", "lost", "gained", "seconds"}
    assert set(found["overall"]) == {
        *("name", "passed", "lost", "gained", "max_loss", "p_value", "significance", "retained"),
    }
    assert set(found["overall"]["retained"]) == {"value", "n", "low", "high", "protocol"}
    (lost,) = found["lost"]
    assert lost == {
        "id": "known-0",
        "group": "known",
        "prompt": "known 0",
        "answers": ["yes"],
        "before": {"text": "yes", "correct": True, "confidence": None},
        "now": {"text": "no", "correct": False, "confidence": 0.5},
    }
    assert [each["id"] for each in found["gained"]] == ["new-1"]
