"""A fake editor behind the real commands, and a store with real edits that no model made."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from memedit.cli import cli
from memedit.editor.results import (
    Abstention,
    AbstentionWorth,
    Answer,
    Edit,
    EditRefused,
    FactOutcome,
    OpenGate,
    RestsOn,
)
from memedit.evaluation import Metric
from memedit.evaluation.abstention import AbstentionThreshold
from memedit.facts import Fact
from memedit.store import NewEdit, Owner, Patch, Store, TablePatch

CREATED = "2026-01-02T03:04:05+00:00"


def metric(name, value, n=60, low=0.5, high=1.0):
    return {
        "name": name,
        "value": value,
        "n": n,
        "low": low,
        "high": high,
        "protocol": f"how {name} was measured",
    }


def make_report(**changes):
    report = {
        "edit": "e0001-3f9a2c",
        "counts": {
            "facts": 3,
            "already_known": 1,
            "stored": 0,
            "learned": 2,
            "learned_in_other_wordings": 1,
            "failed": 0,
        },
        "metrics": {
            "trained_wording": metric("trained_wording", 1.0, 3),
            "held_out_wording": metric("held_out_wording", 0.5, 6),
            "question": metric("question", None, 0, 0.0, 1.0),
            "retained": metric("retained", 0.995, 200, 0.972, 0.999),
            "perplexity_ratio": metric("perplexity_ratio", 1.0012, 40, 0.9987, 1.0031),
            "leak": metric("leak", 0.05, 60, 0.01, 0.13),
            "look_alikes_changed": metric("look_alikes_changed", 0.2, 60, 0.12, 0.32),
        },
        "seconds": {"total": 92.13, "training": 51.0, "evaluation": 30.2},
        "peak_memory_mb": 1312.4,
        "slots_written": 7612,
        "patch_bytes": 11_234_567,
        "retained_lost": [{"prompt": "The capital of Peru is", "before": "Lima", "after": "Lutz"}],
        "leaked": [],
        "gate": {"passed": True, "reasons": [], "notes": []},
        "model": "smollm2-135m",
        "seed": 0,
        "versions": {"memedit": "0.1.0"},
        "read": {"source": "facts.jsonl", "format": "memedit", "records": 3, "facts": 3},
        "not_learned": [],
    }
    return {**report, **changes}


def make_fact(number=1):
    return Fact(f"fact-{number}", f"The capital of Land{number} is", f"Town{number}", f"Land{number}")


def make_outcome(number=1, status="learned", **changes):
    fields = {
        "fact": make_fact(number),
        "status": status,
        "before": "the city of",
        "after": f"Town{number}",
        "held_out": (True, False),
        "question": (True,),
        "note": None,
    }
    return FactOutcome(**{**fields, **changes})


def make_edit(*outcomes, edit_id="e0001-3f9a2c", committed=True, **changes):
    outcomes = outcomes or (make_outcome(1), make_outcome(2, "already_known"), make_outcome(3))
    return Edit(edit_id, committed, outcomes, make_report(edit=edit_id, **changes))


def make_grounds(**changes):
    """A stored fact that an answer rests on."""
    fields = {
        "edit_id": "e0001-3f9a2c",
        "fact_id": "fact-1",
        "prompt": "The capital of Land1 is",
        "target": "Town1",
        "subject": "Land1",
        "share": 1.0,
        "mass": 0.8,
        "threshold": 0.4,
        "subject_match": "whole",
        "likeness": 1.0,
        "states_target": True,
        "gates": (
            OpenGate("Land", in_answer=False, mass=0.6, threshold=0.4),
            OpenGate("1", in_answer=False, mass=0.8, threshold=0.4),
        ),
    }
    return RestsOn(**{**fields, **changes})


def make_abstention(precision, support, **changes):
    """An answer that is given, or withheld where `support` is None."""

    def share(value, n=100):
        return Metric("share", value, n, max(0.0, value - 0.1), min(1.0, value + 0.1), "how it was measured")

    rule = {"threshold": -1.5, "reached": True, **changes}
    base = AbstentionThreshold(
        target_precision=precision, precision=share(0.9), coverage=share(0.4), right_kept=share(0.7), **rule
    )
    worth = AbstentionWorth(base, share(0.95), share(0.5), share(0.8), share(1.0, 12), share(math.nan, 0))
    return Abstention(support, -2.25, "Town1" if support is None else None, worth)


def make_withheld(prompt, **changes):
    """An answer that is withheld, by a threshold with these changes."""
    return Answer(
        prompt, "I don't know", 0.4, None, 0.0, (), None, None, make_abstention(0.9, None, **changes)
    )


class FakeEditor:
    """Answers with what a test put in; remembers how it was called."""

    def __init__(self):
        self.edit = make_edit()
        self.on_inject = lambda: None
        self.on_open = lambda: None
        self.refused = False
        self.opened = None
        self.injected = None
        self.asked = None
        self.support = None
        self.closed = False

    def open(self, *arguments, **options):
        self.opened = (arguments, options)
        self.on_open()
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def inject(self, facts, **options):
        self.injected = (facts, options)
        self.on_inject()
        if self.refused:
            raise EditRefused("5 of 200 retained facts were lost", self.edit, remedy="Use --force.")
        return self.edit

    def ask(self, prompt, *, without, max_new_tokens, why, abstain, precision, progress):
        self.asked = (without, max_new_tokens)
        unedited = "a town" if why else None
        if without:
            return Answer(prompt, "", 0.4, None, 0.0, (), without, unedited)
        abstention = make_abstention(precision, self.support) if abstain else None
        text = "I don't know" if abstain and self.support is None else "Town1"
        return Answer(prompt, text, 0.9712, "Land1", 0.8, (make_grounds(),), None, unedited, abstention)


@pytest.fixture
def editor(monkeypatch):
    """The editor that `memedit.editor.open_editor` opens."""
    fake = FakeEditor()
    monkeypatch.setattr("memedit.editor.open_editor", fake.open)
    return fake


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run `memedit ARGUMENTS` in an empty folder: run(...) -> result with exit_code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def facts_file(tmp_path):
    """A facts file with three facts."""
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(json.dumps(make_fact(number).to_json()) for number in (1, 2, 3)))
    return path


@pytest.fixture
def commit():
    """Commit an edit of two facts to a store: commit(path, number=1, report=None) -> EditRecord."""

    def committed(path, number=1, report=None):
        facts = (make_fact(number), make_fact(number + 100))
        slots = np.array([number, number + 10], dtype=np.int64)
        table = TablePatch(slots, np.full((2, 4), number, np.float32), np.zeros(2, np.int64))
        patch = Patch((table,), (Owner(facts[0].subject, 0.4, (facts[0].id,)),), {})
        outcomes = tuple(
            {
                "fact_id": fact.id,
                "status": "learned",
                "before": "unknown",
                "after": fact.target,
                "held_out": [True, False],
                "question": [True],
                "note": None,
            }
            for fact in facts
        )
        report = make_report(edit=None) if report is None else report
        new = NewEdit(facts, outcomes, patch, report, 7, CREATED, ({"name": "later", "value": 1},))
        with Store.open(path, fingerprint="model-a") as store:
            return store.commit(new)

    return committed


@pytest.fixture
def store(tmp_path, commit):
    """A store with one edit, in the place where commands look for it."""
    path = tmp_path / ".memedit"
    commit(path)
    return path


@pytest.fixture
def make():
    """The makers of this file: make.edit, make.outcome, make.report, make.answer."""
    return SimpleNamespace(edit=make_edit, outcome=make_outcome, report=make_report, answer=make_withheld)
