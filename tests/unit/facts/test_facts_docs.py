"""docs/facts.md: its examples are read, and what it promises is there."""

import json
import re
from pathlib import Path

import pytest

from memedit.facts import FORMATS, facts_from_records, relations

DOC = (Path(__file__).parents[3] / "docs" / "facts.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)\n```", DOC, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_facts(example):
    assert len(facts_from_records([json.loads(example)])) == 1


def test_python_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)\n```", DOC, re.DOTALL)
    exec(compile(code, "docs/facts.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Zubrowka"
    assert lines[1] == "given The capital of Zubrowka is"
    kinds = ("given", "statement", "question", "context")
    assert 8 <= sum(line.startswith(kinds) for line in lines) <= 12


def test_named_relations_exist():
    (sentence,) = re.findall(r"holds the relations: (.*?) and some", DOC)
    assert set(re.findall(r"`(\w+)`", sentence)) <= set(relations())
    assert len(EXAMPLES) >= 3


def test_every_format_is_listed():
    (section,) = re.findall(r"## Other formats\n(.*)", DOC, re.DOTALL)
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(FORMATS)
    for name, meaning in FORMATS["zsre"].target_conventions:
        assert f"--target-convention {name}" in section
        assert meaning
