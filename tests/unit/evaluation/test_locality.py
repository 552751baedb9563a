"""Local: CounterFact's scores and agreement, by hand, with the bad cases."""

from __future__ import annotations

import math

import pytest
from scipy.stats import hmean

from memedit.evaluation.catalogue import all_metrics, metric_info
from memedit.evaluation.fact_families import evaluate_facts
from memedit.evaluation.generalised import generalised
from memedit.evaluation.learned import learned
from memedit.evaluation.locality import agreement, local
from memedit.evaluation.respondent import ModelRespondent
from memedit.evaluation.statistics import wilson_interval
from memedit.facts import Fact, Probe, Probes

FACTS = [
    Fact(
        "f1",
        "Danielle speaks",
        "English",
        "Danielle",
        replaces="French",
        probes=Probes(
            paraphrases=("The mother tongue of Danielle is", "Danielle was raised with"),
            locality=(
                Probe("Montesquieu speaks", kind="neighborhood"),
                Probe("Ferdinand speaks", "French", ("Francais",), kind="neighborhood"),
                Probe("Danielle was born in", "Paris", kind="relation_specificity"),
                Probe("The sky is"),
            ),
        ),
    ),
    Fact(
        "f2",
        "The Eiffel Tower is in",
        "Rome",
        "The Eiffel Tower",
        replaces="the city of Paris",
        probes=Probes(paraphrases=("To see the Eiffel Tower, go to",)),
    ),
]
NEW, TRUE = " English", " French"
# (log-probability, tokens, first choices)
SCORES = {
    ("Danielle speaks", NEW): (-1.0, 1, 1),
    ("Danielle speaks", TRUE): (-2.0, 1, 0),
    ("The mother tongue of Danielle is", NEW): (-3.0, 1, 0),
    ("The mother tongue of Danielle is", TRUE): (-2.0, 1, 1),
    # A tie is no success.
    ("Danielle was raised with", NEW): (-2.0, 1, 0),
    ("Danielle was raised with", TRUE): (-2.0, 1, 0),
    ("Montesquieu speaks", NEW): (-5.0, 1, 0),
    ("Montesquieu speaks", TRUE): (-1.0, 1, 1),
    ("Ferdinand speaks", NEW): (-1.0, 1, 1),
    ("Ferdinand speaks", TRUE): (-5.0, 1, 0),
    # By the sum over tokens the new answer wins, by the mean the old one.
    ("The Eiffel Tower is in", " Rome"): (-2.0, 1, 0),
    ("The Eiffel Tower is in", " the city of Paris"): (-4.0, 4, 4),
    ("To see the Eiffel Tower, go to", " Rome"): (-1.0, 1, 1),
    ("To see the Eiffel Tower, go to", " the city of Paris"): (-8.0, 4, 3),
}
ANSWERS = {
    "Montesquieu speaks": "French, of course",
    "Ferdinand speaks": "English",
    "Danielle was born in": "",
    "The sky is": "blue",
}


def values(evaluation):
    return {metric.name: metric.value for metric in evaluation.metrics}


def test_by_hand(table_respondent):
    who = table_respondent(ANSWERS, SCORES)
    found = local(who, FACTS)
    expected = {
        "efficacy_score": 1 / 2,
        "efficacy_accuracy": 1 / 2,
        "paraphrase_score": 1 / 3,
        "paraphrase_accuracy": 1 / 3,
        "neighborhood_score": 1 / 2,
        "neighborhood_accuracy": 1 / 2,
        "editing_score": hmean([1 / 2, 1 / 3, 1 / 2]),
        "editing_accuracy": hmean([1 / 2, 1 / 3, 1 / 2]),
        # Where a neighborhood prompt names no answer it is what the fact replaces; the last has none.
        "locality_accuracy": 1 / 3,
        "locality_confidence": 0.5,
    }
    assert values(found) == pytest.approx(expected)
    assert found.notes == ()
    assert len(who.answer_calls) == len(who.score_calls) == 1
    assert len(who.score_calls[0]) == len(SCORES)
    efficacy = found.metric("efficacy_score")
    assert (efficacy.n, efficacy.low, efficacy.high) == (2, *wilson_interval(1, 2))
    assert found.metric("editing_score").n == 2


def test_samples_show_what_was_compared(table_respondent):
    samples = local(table_respondent(ANSWERS, SCORES), FACTS).samples
    assert len({(sample.metric, sample.item) for sample in samples}) == len(samples)
    (tower,) = [one for one in samples if one.metric == "efficacy_score" and one.cluster == "f2"]
    assert (tower.value, tower.expected) == (0, ("Rome",))
    assert tower.details == {"log_prob_new": -2.0, "log_prob_true": -4.0}
    assert tower.text == "'Rome' -2.000 nats a token, 'the city of Paris' -1.000"
    neighbours = [one for one in samples if one.metric == "neighborhood_score"]
    assert [one.expected for one in neighbours] == [("French",), ("French",)]


def test_everything_leaked(table_respondent):
    """A model that says the new answer to everything: nothing local is left, and the score is 0."""
    scores = {
        (prompt, said): (-0.1, 1, 1) if said in (NEW, " Rome") else (-9.0, 1, 0) for prompt, said in SCORES
    }
    before = local(table_respondent(ANSWERS, SCORES), FACTS)
    after = local(table_respondent(default_answer="English", scores=scores), FACTS)
    assert values(after) == pytest.approx(
        {
            "efficacy_score": 1,
            "efficacy_accuracy": 1,
            "paraphrase_score": 1,
            "paraphrase_accuracy": 1,
            "neighborhood_score": 0,
            "neighborhood_accuracy": 0,
            "editing_score": 0,
            "editing_accuracy": 0,
            "locality_accuracy": 0,
            "locality_confidence": 0.5,
        }
    )
    # Only the prompt that was answered so before agrees.
    assert agreement(before.samples, after.samples).metric("locality_agreement").value == 1 / 4


def test_a_broken_model_succeeds_nowhere(table_respondent):
    found = local(table_respondent(default_answer="", default_score=(math.nan, 1, 0)), FACTS)
    assert {name: value for name, value in values(found).items() if value} == {"locality_confidence": 0.5}


def test_agreement(table_respondent):
    before = local(table_respondent(ANSWERS, SCORES), FACTS)
    now = {**ANSWERS, "Montesquieu speaks": '"french, OF course."', "The sky is": "blue and wide"}
    after = local(table_respondent(now, SCORES), FACTS)
    found = agreement(before.samples, reversed(after.samples))
    metric = found.metric("locality_agreement")
    # All but the sky, whose answer goes on otherwise; two empty answers are the same.
    assert (metric.value, metric.n) == (3 / 4, 4)
    assert (metric.low, metric.high) == wilson_interval(0.75, 1)
    assert metric.protocol == metric_info("locality_agreement").protocol
    lost = [one for one in found.samples if not one.value]
    assert [(one.prompt, one.expected, one.text) for one in lost] == [
        ("The sky is", ("blue",), "blue and wide")
    ]
    with pytest.raises(ValueError, match="got 4 and 0 with 4 that are in one only"):
        agreement(before.samples, [])
    assert agreement([], []).metrics == ()


def test_facts_that_replace_nothing(table_respondent):
    facts = [
        Fact("f1", "p is", "new", "p", probes=Probes(locality=(Probe("q is"),))),
        # The old answer is the new one.
        Fact("f2", "r is", "New", "r", replaces="new."),
    ]
    found = local(table_respondent(default_answer="x"), facts)
    assert values(found) == {"locality_confidence": 0.5}
    assert found.notes == (
        "left out of the CounterFact scores, for they do not say what they replace: 1 facts",
        "left out of the CounterFact scores, for the old answer is the new one: 1 prompts",
    )


def test_no_locality_and_no_paraphrases(table_respondent):
    fact = Fact("f", "p is", "new", "p", replaces="old")
    found = local(table_respondent(default_score=(-1.0, 1, 1)), [fact])
    assert values(found) == {"efficacy_score": 0, "efficacy_accuracy": 1}
    assert found.notes == (
        "editing_score was not measured: no held-out wordings and no neighborhood prompts",
        "locality was not measured: no locality prompts",
    )
    assert local(table_respondent(), []).metrics == ()


def test_a_probe_of_no_kind_is_a_neighbour_when_it_asks_for_what_is_replaced(table_respondent):
    probes = Probes(locality=(Probe("q is", "old"), Probe("r is", "other")))
    fact = Fact("f", "p is", "new", "p", replaces="old", probes=probes)
    found = local(table_respondent(default_answer="old", default_score=(-1.0, 1, 1)), [fact])
    assert found.metric("neighborhood_score").n == 1
    assert found.metric("locality_accuracy").value == 0.5


def test_every_metric_is_in_the_catalogue(table_respondent):
    found = local(table_respondent(ANSWERS, SCORES), FACTS)
    for metric in found.metrics:
        assert metric.protocol == metric_info(metric.name).protocol
    named = {info.name for info in all_metrics() if info.family == "local"}
    assert named == {*values(found), "locality_agreement"}


def test_families_asked_together_find_what_they_find_alone(tiny_llama, tiny_tokenizer):
    class Counted(ModelRespondent):
        prompts, pairs = [], []

        def answer(self, prompts, **options):
            self.prompts.append(list(prompts))
            return super().answer(prompts, **options)

        def score(self, pairs, **options):
            self.pairs.append(list(pairs))
            return super().score(pairs, **options)

    who = Counted(tiny_llama.eval(), tiny_tokenizer)
    together = evaluate_facts(who, FACTS, seed=3)
    assert [len(calls) for calls in (who.prompts, who.pairs)] == [1, 1]
    for asked in (who.prompts[0], who.pairs[0]):
        assert len(set(asked)) == len(asked)
    alone = [family(who, FACTS, seed=3) for family in (learned, generalised, local)]
    assert values(together) == pytest.approx(
        {name: value for found in alone for name, value in values(found).items()}, rel=1e-4
    )
    assert together.notes == tuple(note for found in alone for note in found.notes)
