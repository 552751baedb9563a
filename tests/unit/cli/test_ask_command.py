"""`memedit ask`: the answer with its grounds, and what is refused before a model is opened."""

from __future__ import annotations

import json

PROMPT = "The capital of Land1 is"


def test_screen(editor, run, store):
    result = run("ask", PROMPT)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "The capital of Land1 is Town1",
        "  confidence 0.97 (probability of the first token)",
        "  rests on e0001-3f9a2c fact-1: The capital of Land1 is Town1",
    ]
    assert result.stderr == ""
    (path, model), options = editor.opened
    assert (str(path), model, options["read_only"]) == (".memedit", None, True)
    assert editor.asked == (None, 32)


def test_json(editor, run, store):
    result = run("ask", PROMPT, "--json", "--model", "m", "--max-new-tokens", 5)
    assert (result.exit_code, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert set(answer) == {
        "prompt", "text", "confidence", "subject", "mass", "facts", "without", "unedited", "abstention",
    }  # fmt: skip
    (fact,) = answer["facts"]
    assert {"edit_id", "fact_id", "prompt", "target"} <= set(fact)
    assert (fact["subject"], fact["share"], fact["subject_match"]) == ("Land1", 1.0, "whole")
    assert fact["gates"][1] == {"token": "1", "in_answer": False, "mass": 0.8, "threshold": 0.4}
    assert answer["unedited"] is None
    assert editor.opened[0][1] == "m"
    assert editor.asked == (None, 5)


def test_why_shows_how_far_the_answer_rests_on_each_fact(editor, run, store):
    result = run("ask", PROMPT, "--why")
    assert result.exit_code == 0, result.output
    gate = 'gate 0.80 at its widest, opens from 0.40; open at "Land" 0.60, "1" 0.80'
    assert result.stdout.splitlines()[2:] == [
        "  rests on e0001-3f9a2c fact-1: The capital of Land1 is Town1",
        f"    share 100% of what stored facts said; {gate}",
        '    its subject "Land1" stands in the prompt; wording 1.00 alike; the answer states its target',
        "  without any edit: a town",
    ]
    result = run("ask", PROMPT, "--why", "--without", 1)
    assert result.stdout.splitlines()[2:] == [
        "  rests on no stored fact; the base model answered",
        "  without any edit: a town",
    ]
    assert json.loads(run("ask", PROMPT, "--why", "--json").stdout)["unedited"] == "a town"


def test_without_takes_any_name_of_the_edit(editor, run, store):
    result = run("ask", PROMPT, "--without", 1)
    assert result.exit_code == 0
    assert editor.asked[0].startswith("e0001-")
    assert f"without edit {editor.asked[0]}" in result.stdout
    assert "The capital of Land1 is (nothing)" in result.stdout
    assert "rests on no stored fact" in result.stdout


def test_refused_before_a_model_is_opened(editor, run, store):
    result = run("ask", PROMPT, "--without", "e0007")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no edit 'e0007'; known edits: e0001-" in result.stderr
    assert run("ask", "  ").exit_code == 2
    assert run("ask", PROMPT, "--max-new-tokens", 0).exit_code == 2
    result = run("ask", PROMPT, "--store", "nowhere")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no store at nowhere\n`memedit inject FACTS` makes one." in result.stderr
    assert editor.opened is None
