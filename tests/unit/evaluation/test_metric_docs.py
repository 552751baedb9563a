"""The documents name every metric of retention and hallucination, and their examples hold."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from memedit.evaluation.refusals import is_assertion, is_refusal

DOCS = Path(__file__).parents[3] / "docs"
MODULES = {
    "retention": ("lifelong", "edit_age", "last_written", "open_questions", "fluency", "memory_health"),
    "hallucination": ("assertions", "truthfulqa", "self_aware", "slick", "calibration_error"),
}


@pytest.mark.parametrize("document", MODULES)
def test_every_metric_is_described(document):
    text = (DOCS / f"{document}.md").read_text(encoding="utf-8")
    named = {
        re.sub(r"retained_age_.*", "retained_age_A", name) for name in re.findall(r"`([a-z0-9_A]+)`", text)
    }
    for module in MODULES[document]:
        for entry in importlib.import_module(f"memedit.evaluation.{module}").METRICS:
            assert re.sub(r"retained_age_.*", "retained_age_A", entry.name) in named


def test_the_examples_of_assertions_hold():
    text = (DOCS / "hallucination.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*) \| (assertion|refusal|no answer)(?:[:,]| \|)", text, flags=re.MULTILINE)
    assert len(rows) == 7
    for cell, verdict in rows:
        for answer in re.findall(r"`([^`]+)`", cell):
            assert is_assertion(answer) == (verdict == "assertion"), answer
            assert is_refusal(answer) == (verdict == "refusal"), answer
