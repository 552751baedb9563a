"""What an evaluation rests on: anything that could change it changes its name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from memedit.facts import facts_from_records
from memedit.facts.formats import Records
from memedit.reports.kept_evaluation import evaluation_entry, kept_evaluation
from memedit.store import NewEdit, Owner, Patch, Store, TablePatch

ASKED = {"on": "current", "against": "base", "families": (), "limit": None, "seed": 0, "text": None}


@pytest.fixture
def model(tmp_path):
    """A folder that stands for a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def store(tmp_path, model):
    """A store with one edit."""
    commit(tmp_path / "store", model, 0)
    return tmp_path / "store"


def commit(folder, model, number):
    import numpy as np

    (fact,) = facts_from_records([{"prompt": f"The capital of Land{number} is", "target": "Lutz"}])
    one = np.array([number], dtype=np.int64)
    table = TablePatch(one, np.ones((1, 4), dtype=np.float32), np.zeros(1, dtype=np.int64))
    patch = Patch((table,), (Owner(fact.subject, 0.4, (fact.id,)),), {})
    outcome = {"fact_id": fact.id, "status": "learned", "before": "", "after": "Lutz"}
    with Store.open(folder, fingerprint="f" * 64) as opened:
        opened.commit(
            NewEdit((fact,), (outcome,), patch, {"model": str(model)}, 0, "2026-01-02T03:04:05+00:00")
        )


def test_the_same_has_the_same_name(store):
    name = evaluation_entry(store, None, None, ASKED)
    assert name == evaluation_entry(store, None, None, dict(ASKED))
    assert kept_evaluation(store, name) is None


def test_whatever_decides_the_result_changes_the_name(store, model, tmp_path, monkeypatch):
    names = {evaluation_entry(store, None, None, ASKED)}

    def is_new(*, records=None, **changed):
        name = evaluation_entry(store, None, records, {**ASKED, **changed})
        known = name in names
        names.add(name)
        return not known

    assert is_new(seed=1)
    assert is_new(families=("facts",))
    (tmp_path / "text.txt").write_text("One text.")
    assert is_new(text=tmp_path / "text.txt")
    (tmp_path / "text.txt").write_text("Another text.")
    assert is_new(text=tmp_path / "text.txt")
    facts = tuple(facts_from_records([{"prompt": "The capital of Land7 is", "target": "Lutz"}]))
    assert is_new(records=Records("facts.jsonl", "memedit", 1, facts))
    assert is_new(records=Records("facts.jsonl", "memedit", 1, (replace(facts[0], target="Pera"),)))
    assert not is_new()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert is_new()
    (model / "config.json").write_text("{ }")
    assert is_new()
    commit(store, model, 1)
    assert is_new()
    with Store.open(store, fingerprint=None) as opened:
        opened.undo()
    assert is_new()


def test_what_cannot_be_looked_at_has_no_name(store, model, tmp_path):
    assert evaluation_entry(tmp_path / "nowhere", str(model), None, ASKED) is None
    assert evaluation_entry(store, "owner/on-a-hub", None, ASKED) is None
    (model / "config.json").unlink()
    model.rmdir()
    assert evaluation_entry(store, None, None, ASKED) is None


def test_a_damaged_entry_is_none(store):
    name = evaluation_entry(store, None, None, ASKED)
    with Store.open(store, fingerprint=None) as opened:
        opened.write_cache(name, '{"states": 3}')
    assert json.loads((store / "cache" / f"{name}.json").read_text()) == '{"states": 3}'
    assert kept_evaluation(store, name) is None
