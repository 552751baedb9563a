"""The whole way of a fact on the real SmolLM2: example facts through the real command line, then undone.

The injection runs once, in a subprocess, as a user would start it; the tests read its report and use its
store. Every eighth of the example facts is taught in the default tier; test_targets_smollm2.py, marked slow,
holds all of them to the project's targets.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from injected_store import inject_by_command, value

from memedit.cli import cli
from memedit.facts import read_facts

pytestmark = pytest.mark.model

ROOT = Path(__file__).parents[2]
FACTS = ROOT / "examples" / "facts.jsonl"
NUM_FACTS = 8


@pytest.fixture(scope="module")
def facts_file(tmp_path_factory):
    """Some of the example facts, of every kind."""
    lines = FACTS.read_text(encoding="utf-8").splitlines(keepends=True)[::8]
    assert len(lines) == NUM_FACTS
    path = tmp_path_factory.mktemp("facts") / "facts.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def injected(smollm2_folder, facts_file, tmp_path_factory):
    """Store and report of `memedit inject facts.jsonl --json`."""
    return inject_by_command(facts_file, tmp_path_factory.mktemp("injected") / "store")


def test_learns_in_trained_and_other_wordings(injected):
    assert injected.report["counts"]["facts"] == NUM_FACTS
    assert value(injected, "trained_wording") >= 0.97
    assert value(injected, "held_out_wording") >= 0.65
    assert value(injected, "question") >= 0.4
    assert injected.report["metrics"]["held_out_wording"]["n"] >= 2 * NUM_FACTS


def test_keeps_what_the_model_knew(injected):
    retained = injected.report["metrics"]["retained"]
    assert retained["n"] >= 50
    assert retained["value"] >= 0.98
    assert value(injected, "perplexity_ratio") <= 1.005
    assert value(injected, "leak") <= 0.08
    assert injected.report["gate"]["passed"]


def test_exit_code_says_whether_all_was_learned(injected):
    assert injected.code == (1 if injected.report["counts"]["failed"] else 0)


def test_ask_answers_with_provenance_and_without_the_edit(injected, facts_file):
    fact = read_facts(facts_file)[0]
    ask = ["ask", fact.prompt, "--store", str(injected.store), "--json"]
    taught = json.loads(CliRunner().invoke(cli, ask, catch_exceptions=False).stdout)
    plain = json.loads(CliRunner().invoke(cli, [*ask, "--without", "1"], catch_exceptions=False).stdout)
    assert taught["text"].startswith(fact.target)
    assert taught["subject"] == fact.subject
    assert [item["fact_id"] for item in taught["facts"]] == [fact.id]
    assert not plain["text"].startswith(fact.target)
    assert plain["facts"] == []
    assert plain["without"] == injected.report["edit"]


def test_show_has_the_text_before_and_after(injected):
    shown = CliRunner().invoke(cli, ["show", "1", "--store", str(injected.store), "--json"])
    facts = json.loads(shown.stdout)["facts"]
    assert len(facts) == NUM_FACTS
    for fact in facts:
        assert fact["outcome"]["before"] != fact["outcome"]["after"]


def test_undo_restores_the_logits_to_the_bit_and_redo_the_edit(injected, facts_file, smollm2_folder):
    import torch
    from transformers import LlamaForCausalLM

    import memedit
    from memedit.modeling.arithmetic import computing

    fact = read_facts(facts_file)[0]
    with memedit.open(injected.store) as editor:
        ids = torch.tensor([[0, *editor.tokenizer(fact.prompt).input_ids]])

        def logits():
            with torch.no_grad():
                return editor.model(ids).logits

        edited = logits()
        editor.undo()
        undone = logits()
        editor.redo()
        assert torch.equal(edited, logits())
    base = computing(LlamaForCausalLM.from_pretrained(smollm2_folder, dtype="auto").eval())
    with torch.no_grad():
        assert torch.equal(undone, base(ids).logits)
    assert not torch.equal(edited, undone)


def test_a_second_injection_finds_its_facts_in_the_store(injected, facts_file):
    result = CliRunner().invoke(
        cli, ["inject", str(facts_file), "--store", str(injected.store), "--json"], catch_exceptions=False
    )
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert report["counts"]["stored"] == NUM_FACTS
    assert report["edit"] is None


def test_the_edited_model_generates_and_is_saved_as_a_normal_folder(injected, facts_file, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    import memedit

    fact = read_facts(facts_file)[0]
    with memedit.open(injected.store, read_only=True) as editor:
        ids = torch.tensor([[0, *editor.tokenizer(fact.prompt).input_ids]])
        told = editor.model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=2)
        editor.model.save_pretrained(tmp_path / "edited")
        decoded = editor.tokenizer.decode(told[0, ids.shape[1] :], skip_special_tokens=True)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    with torch.no_grad():
        assert torch.equal(told, again.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=2))
    assert decoded.strip().startswith(fact.target)
