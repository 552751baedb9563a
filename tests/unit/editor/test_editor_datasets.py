"""The editor takes whatever the readers read."""

from __future__ import annotations

import json

import pytest

from memedit.errors import FactsError
from memedit.facts import read_records

KNOWN = {"subject": "Zubrow", "attribute": "Lutz", "prompt": "The capital of Zubrow is", "known_id": 1}


@pytest.fixture
def path(tmp_path):
    """A file in the format of a benchmark."""
    (tmp_path / "known.json").write_text(json.dumps([KNOWN]))
    return tmp_path / "known.json"


@pytest.mark.parametrize("as_records", [True, False])
def test_a_benchmark_is_injected_from_its_path_or_its_records(work, editor, world, path, as_records):
    edit = editor.inject(
        read_records(path) if as_records else path,
        dry_run=True,
        text=work.text,
        settings=world.world_settings(),
        gate="off",
    )
    assert [(outcome.fact.prompt, outcome.fact.target) for outcome in edit.outcomes] == [
        ("The capital of Zubrow is", "Lutz")
    ]
    assert edit.report["read"] == {
        "source": str(path),
        "format": "known",
        "records": 1,
        "facts": 1,
        "questions": 0,
        "bad": 0,
        "merged": 0,
        "probes_left_out": 0,
    }


def test_facts_of_a_program_were_read_nowhere(work, editor, world):
    assert work.inject(editor, *world.new_facts()[:1], dry_run=True).report["read"] is None


def test_questions_are_refused(editor, path):
    path.write_text(json.dumps([{"question": "who built the dam", "answer": ["Tom Hale"]}]))
    with pytest.raises(FactsError, match="nothing to teach"):
        editor.inject(path)
