"""The catalogue names every metric once, and no module's metrics are left out."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

import memedit
import memedit.evaluation
from memedit.evaluation import abstention, recall
from memedit.evaluation import catalogue as room
from memedit.evaluation.assertions import (
    assertion_change,
    assertions,
    taught_against_untaught,
    with_membership,
)
from memedit.evaluation.calibration_error import calibration
from memedit.evaluation.fact_families import evaluate_facts
from memedit.evaluation.fluency import fluency
from memedit.evaluation.forgotten import forgotten
from memedit.evaluation.last_written import last_written_leak
from memedit.evaluation.lifelong import ask_batches, lifelong
from memedit.evaluation.locality import agreement
from memedit.evaluation.memory_health import WrittenRows, memory_health
from memedit.evaluation.open_questions import open_questions, relative_drop
from memedit.evaluation.perplexity import Perplexity, perplexity_ratio
from memedit.evaluation.retention import ask_known, retained, retention_questions
from memedit.evaluation.samples import joined
from memedit.evaluation.self_aware import self_aware
from memedit.evaluation.slick import slick
from memedit.evaluation.truthfulqa import truthfulqa
from memedit.facts import PORTABILITY_KINDS, Fact, LookAlike, MultiHop, Probe, Probes, QuestionRecord

FACT = Fact(
    "f",
    "The capital of Zubrowka is",
    "Lutz",
    "Zubrowka",
    replaces="Nebelsbad",
    probes=Probes(
        paraphrases=("Zubrowka is ruled from",),
        questions=("What is the capital of Zubrowka?",),
        locality=(Probe("The capital of Lutha is", "Bo", kind="neighborhood"),),
        portability=tuple(Probe(f"{kind} of Zubrowka is", "Lutz", kind=kind) for kind in PORTABILITY_KINDS),
        multi_hop=(MultiHop(("Who rules the capital of Zubrowka?",), "Bo"),),
    ),
)
ALIKE = [LookAlike("The capital of Zubrowski is", "Zubrowski", "f")]
OPEN = [QuestionRecord("o", "who wrote hamlet", ("Shakespeare",))]
CHOICES = [QuestionRecord("c", "Why?", kind="multiple_choice", correct=("So",), incorrect=("No",))]
ANSWERABLE = [
    QuestionRecord("y", "When?", ("1914",), kind="answerable", answerable=True),
    QuestionRecord("n", "Whence?", kind="answerable", answerable=False),
]


def measured(respondent):
    """The names of everything that the families find with one respondent."""
    facts = evaluate_facts(respondent, [FACT])
    learned = [one for one in facts.samples if one.metric == "learned_exact_match"]
    asserted = assertions(respondent, ALIKE)
    untaught = [one for one in asserted.samples if one.metric == "look_alike_assertion_rate"]
    known = ask_known(respondent, retention_questions([FACT]))
    rounds = [ask_batches(respondent, [[FACT]] * number) for number in range(1, 67)]
    opened = open_questions(respondent, OPEN)
    health = memory_health(
        [WrittenRows("e", [0], np.ones((1, 2)), ["Zubrowka"])],
        num_slots=[2],
        base_rows={0: np.ones((2, 2))},
        accesses={0: [1, 2]},
    )
    parts = [
        *(facts, agreement(facts.samples, facts.samples), asserted, health, opened, calibration(learned)),
        assertion_change(asserted, asserted, ALIKE, [FACT]),
        taught_against_untaught(with_membership(learned, [0.9]), with_membership(untaught, [0.1])),
        retained(respondent, known),
        lifelong(rounds),
        last_written_leak(rounds[-1], ["Lutz"]),
        truthfulqa(respondent, CHOICES),
        self_aware(respondent, ANSWERABLE),
        slick(respondent, [FACT]),
        fluency(respondent, {"f": FACT.prompt}),
    ]
    answered = recall.ask_questions(respondent, recall.questions_of(FACT))
    alone = [recall.recall_metric([one], one.question.group) for one in answered]
    judged = [abstention.Judged("f", 0.5, right=True)]
    told = Perplexity(2.0, (3.0,), (4,))
    alone += [relative_drop(opened, opened), perplexity_ratio(told, told)]
    alone += forgotten(answered, answered, answered, answered)
    alone += abstention.abstention_metrics(judged, [True], "p")
    return {metric.name for metric in (*joined(parts).metrics, *alone)}


def named_in_the_source():
    """The names that stand literally in a call that makes a metric, anywhere in memedit."""
    makers = {"Metric", "share_metric", "mean_metric", "difference_metric", "auroc_metric", "recall_metric"}
    calls = [
        node
        for path in Path(memedit.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers
    ]
    firsts = [call.args[0] for call in calls if call.args]
    return {first.value for first in firsts if isinstance(first, ast.Constant)}


def test_what_is_measured_is_what_is_listed(table_respondent):
    literal = named_in_the_source()
    assert {"perplexity", "abstention_memory_precision"} <= literal
    emitted = literal | measured(table_respondent(default_answer="Lutz", default_score=(-1.0, 1, 1)))
    assert emitted == {entry.name for entry in room.all_metrics()}


def test_a_protocol_of_what_was_taught_is_the_catalogues():
    for group in (recall.TRAINED_WORDING, recall.HELD_OUT_WORDING, recall.QUESTION):
        assert room.metric_info(group).protocol == recall.protocol(group)


def test_listing_needs_no_torch():
    code = (
        "import sys, memedit.evaluation.catalogue as it; it.all_metrics(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_family_stands_in_one_piece():
    families = [family for family, _ in groupby(entry.family for entry in room.all_metrics())]
    assert len(families) == len(set(families))


def test_every_module_that_declares_metrics_is_listed():
    modules = {module.name for module in pkgutil.iter_modules(memedit.evaluation.__path__)}
    declaring = {
        name for name in modules if hasattr(importlib.import_module(f"memedit.evaluation.{name}"), "METRICS")
    }
    assert declaring == set(room.FAMILY_MODULES)


def test_every_entry_says_everything():
    entries = room.all_metrics()
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.name == entry.name.lower().replace(" ", "_")
        assert all((entry.family, entry.formula, entry.source, entry.protocol))
        assert "\n" not in entry.formula + entry.protocol
        assert entry.to_json()["higher_is_better"] in (True, False, None)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="got 'no_such_metric'"):
        room.metric_info("no_such_metric")
