"""Measurements of a model by what it really says: recall, retention, look-alikes, perplexity.

What: the names below; the modules hold the rest. Every number is a `Metric` with its protocol, n and a 95 %
interval.
Why lazy: matching, statistics and the comparison of answers must not pay for torch, so names are imported on
first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memedit.evaluation.abstention import AbstentionThreshold as AbstentionThreshold
    from memedit.evaluation.abstention import Judged as Judged
    from memedit.evaluation.abstention import calibrate_abstention as calibrate_abstention
    from memedit.evaluation.answer_support import support_of_answers as support_of_answers
    from memedit.evaluation.assertions import assertion_change as assertion_change
    from memedit.evaluation.assertions import never_taught as never_taught
    from memedit.evaluation.assertions import taught_against_untaught as taught_against_untaught
    from memedit.evaluation.assertions import with_membership as with_membership
    from memedit.evaluation.baseline import Baseline as Baseline
    from memedit.evaluation.baseline import suite_hash as suite_hash
    from memedit.evaluation.calibration_error import calibration as calibration
    from memedit.evaluation.calibration_error import expected_calibration_error as expected_calibration_error
    from memedit.evaluation.catalogue import MetricInfo as MetricInfo
    from memedit.evaluation.catalogue import all_metrics as all_metrics
    from memedit.evaluation.catalogue import metric_info as metric_info
    from memedit.evaluation.edit_age import retained_by_age as retained_by_age
    from memedit.evaluation.fact_families import evaluate_facts as evaluate_facts
    from memedit.evaluation.generation import Generation as Generation
    from memedit.evaluation.generation import generate_answers as generate_answers
    from memedit.evaluation.harness import harness_tasks as harness_tasks
    from memedit.evaluation.harness import live_harness_model as live_harness_model
    from memedit.evaluation.harness import require_harness as require_harness
    from memedit.evaluation.harness_comparison import HarnessDifference as HarnessDifference
    from memedit.evaluation.harness_comparison import compare_harness as compare_harness
    from memedit.evaluation.last_written import last_written_leak as last_written_leak
    from memedit.evaluation.lifelong import RetentionMatrix as RetentionMatrix
    from memedit.evaluation.lifelong import ask_batches as ask_batches
    from memedit.evaluation.lifelong import retention_matrix as retention_matrix
    from memedit.evaluation.locality import agreement as agreement
    from memedit.evaluation.look_alikes import Leak as Leak
    from memedit.evaluation.look_alikes import measure_leak as measure_leak
    from memedit.evaluation.matching import contains as contains
    from memedit.evaluation.matching import matches as matches
    from memedit.evaluation.memory_health import WrittenRows as WrittenRows
    from memedit.evaluation.memory_support import stated_facts as stated_facts
    from memedit.evaluation.memory_support import wording_fits as wording_fits
    from memedit.evaluation.open_questions import open_retention_questions as open_retention_questions
    from memedit.evaluation.open_questions import relative_drop as relative_drop
    from memedit.evaluation.perplexity import Perplexity as Perplexity
    from memedit.evaluation.perplexity import general_text as general_text
    from memedit.evaluation.perplexity import measure_perplexity as measure_perplexity
    from memedit.evaluation.perplexity import perplexity_ratio as perplexity_ratio
    from memedit.evaluation.question_answering import squad_exact_match as squad_exact_match
    from memedit.evaluation.question_answering import squad_f1 as squad_f1
    from memedit.evaluation.recall import Answered as Answered
    from memedit.evaluation.recall import Question as Question
    from memedit.evaluation.recall import answer_questions as answer_questions
    from memedit.evaluation.recall import ask_questions as ask_questions
    from memedit.evaluation.recall import questions_of as questions_of
    from memedit.evaluation.recall import recall_metric as recall_metric
    from memedit.evaluation.refusals import is_assertion as is_assertion
    from memedit.evaluation.refusals import is_refusal as is_refusal
    from memedit.evaluation.regression import SuiteResult as SuiteResult
    from memedit.evaluation.regression import run_suite as run_suite
    from memedit.evaluation.retention import GateDecision as GateDecision
    from memedit.evaluation.retention import Retention as Retention
    from memedit.evaluation.retention import answer_known as answer_known
    from memedit.evaluation.retention import ask_known as ask_known
    from memedit.evaluation.retention import compare as compare
    from memedit.evaluation.retention import gate as gate
    from memedit.evaluation.retention import retained as retained
    from memedit.evaluation.retention import retention_questions as retention_questions
    from memedit.evaluation.retention import well_known_facts as well_known_facts
    from memedit.evaluation.sampling import sample_answers as sample_answers
    from memedit.evaluation.slick import categories_of as categories_of
    from memedit.evaluation.slick import split_by_category as split_by_category
    from memedit.evaluation.statistics import Metric as Metric
    from memedit.evaluation.suite_building import BuiltSuite as BuiltSuite
    from memedit.evaluation.suite_building import build_suite as build_suite
    from memedit.evaluation.suite_building import suite_items as suite_items
    from memedit.evaluation.suite_cases import cases_of as cases_of
    from memedit.evaluation.suite_files import read_suite as read_suite
    from memedit.evaluation.suite_files import write_suite as write_suite
    from memedit.evaluation.suites import GivenAnswer as GivenAnswer
    from memedit.evaluation.suites import Suite as Suite
    from memedit.evaluation.suites import SuiteItem as SuiteItem

_MODULES = {
    "abstention": ("AbstentionThreshold", "Judged", "calibrate_abstention"),
    "answer_support": ("support_of_answers",),
    "assertions": ("assertion_change", "never_taught", "taught_against_untaught", "with_membership"),
    "baseline": ("Baseline", "suite_hash"),
    "calibration_error": ("calibration", "expected_calibration_error"),
    "catalogue": ("MetricInfo", "all_metrics", "metric_info"),
    "edit_age": ("retained_by_age",),
    "fact_families": ("evaluate_facts",),
    "generation": ("Generation", "generate_answers"),
    "harness": ("harness_tasks", "live_harness_model", "require_harness"),
    "harness_comparison": ("HarnessDifference", "compare_harness"),
    "last_written": ("last_written_leak",),
    "lifelong": ("RetentionMatrix", "ask_batches", "retention_matrix"),
    "locality": ("agreement",),
    "look_alikes": ("Leak", "measure_leak"),
    "matching": ("contains", "matches"),
    "memory_health": ("WrittenRows",),
    "memory_support": ("stated_facts", "wording_fits"),
    "open_questions": ("open_retention_questions", "relative_drop"),
    "perplexity": ("Perplexity", "general_text", "measure_perplexity", "perplexity_ratio"),
    "question_answering": ("squad_exact_match", "squad_f1"),
    "recall": ("Answered", "Question", "answer_questions", "ask_questions", "questions_of", "recall_metric"),
    "refusals": ("is_assertion", "is_refusal"),
    "regression": ("SuiteResult", "run_suite"),
    "retention": (
        "GateDecision",
        "Retention",
        "answer_known",
        "ask_known",
        "compare",
        "gate",
        "retained",
        "retention_questions",
        "well_known_facts",
    ),
    "sampling": ("sample_answers",),
    "slick": ("categories_of", "split_by_category"),
    "statistics": ("Metric",),
    "suite_building": ("BuiltSuite", "build_suite", "suite_items"),
    "suite_cases": ("cases_of",),
    "suite_files": ("read_suite", "write_suite"),
    "suites": ("GivenAnswer", "Suite", "SuiteItem"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'memedit.evaluation' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"memedit.evaluation.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
