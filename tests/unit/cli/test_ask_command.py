"""`memedit ask`: the answer with its grounds, and what is refused before a model is opened."""

from __future__ import annotations

import json
import math

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
    assert (answer["unedited"], answer["abstention"]) == (None, None)
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


WORTH = [
    (
        "  base model, threshold for precision 0.90: precision 0.90 [0.80, 1.00] (n 100), "
        "coverage 0.40 [0.30, 0.50] (n 100)"
    ),
    (
        "  with stored facts: precision 0.95 [0.85, 1.00] (n 100), coverage 0.50 [0.40, 0.60] (n 100), "
        "right answers kept 0.80 [0.70, 0.90] (n 100)"
    ),
    (
        "  stored facts alone: precision 1.00 [0.90, 1.00] (n 12); "
        "given when another relation was asked not measured"
    ),
]


def test_abstain_withholds_and_says_what_that_is_worth(editor, run, store):
    lines = run("ask", PROMPT, "--abstain").stdout.splitlines()
    assert lines[0] == "The capital of Land1 is I don't know"
    assert lines[2] == (
        "  withheld: no stored fact and not the base model supports 'Town1' (support -2.25, needs -1.50)"
    )
    assert lines[3:6] == WORTH
    # The calibration is kept in the store's cache.
    assert editor.opened[1]["read_only"] is False


def test_abstain_says_why_an_answer_is_given(editor, run, store):
    editor.support = "memory"
    lines = run("ask", PROMPT, "--abstain").stdout.splitlines()
    assert lines[0] == "The capital of Land1 is Town1"
    assert lines[2:6] == ["  given: a stored fact states it and is what the prompt asks for", *WORTH]
    editor.support = "base"
    lines = run("ask", PROMPT, "--abstain", "--precision", 0.8).stdout.splitlines()
    assert lines[2] == "  given: the base model supports it (support -2.25, needs -1.50)"
    assert "threshold for precision 0.80" in lines[3]


def test_abstain_in_json(editor, run, store):
    abstention = json.loads(run("ask", PROMPT, "--abstain", "--json").stdout)["abstention"]
    assert (abstention["support"], abstention["withheld"], abstention["score"]) == (None, "Town1", -2.25)
    assert abstention["worth"]["base"]["threshold"] == -1.5
    assert abstention["worth"]["other_relation"]["value"] is None


def test_a_target_that_no_threshold_reaches_is_said(editor, run, store, make):
    editor.ask = lambda prompt, **_: make.answer(prompt, threshold=math.inf, reached=False)
    shown = run("ask", PROMPT, "--abstain").stdout
    assert "precision 0.90 (no threshold reaches it: the best was taken): precision" in shown
    assert "(support -2.25, needs more than any answer has)" in shown


def test_abstain_is_not_for_a_part_of_the_edits(editor, run, store):
    result = run("ask", PROMPT, "--abstain", "--without", 1)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--abstain is calibrated for all active edits, got --without 1" in result.stderr
    assert run("ask", PROMPT, "--abstain", "--precision", 1).exit_code == 2
    assert editor.opened is None


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
