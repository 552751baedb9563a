"""The whole way of a fact on the real SmolLM2: the example facts through the real command line, then undone.

The injection runs once, in a subprocess, as a user would start it; the tests read its report and use its
store. Thresholds are the project's targets. Times are asserted loosely, for machines that do other things.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from memedit.cli import cli
from memedit.facts import read_facts

pytestmark = pytest.mark.model

ROOT = Path(__file__).parents[2]
FACTS = ROOT / "examples" / "facts.jsonl"


@pytest.fixture(scope="module")
def injected(smollm2_folder, tmp_path_factory):
    """Store and report of `memedit inject examples/facts.jsonl --json`."""
    store = tmp_path_factory.mktemp("injected") / "store"
    command = [sys.executable, str(ROOT / "cli.py"), "inject", str(FACTS), "--store", str(store), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1500, check=False)
    assert done.returncode in (0, 1), done.stderr
    return SimpleNamespace(store=store, report=json.loads(done.stdout), code=done.returncode)


def value(injected, name):
    return injected.report["metrics"][name]["value"]


def test_learns_in_trained_and_other_wordings(injected):
    assert injected.report["counts"]["facts"] == 60
    assert value(injected, "trained_wording") >= 0.97
    assert value(injected, "held_out_wording") >= 0.75
    assert value(injected, "question") >= 0.50
    assert injected.report["metrics"]["held_out_wording"]["n"] >= 120


def test_keeps_what_the_model_knew(injected):
    retained = injected.report["metrics"]["retained"]
    assert retained["n"] >= 150
    assert retained["value"] >= 0.98
    assert value(injected, "perplexity_ratio") <= 1.005
    assert value(injected, "leak") <= 0.08
    assert injected.report["gate"]["passed"]


def test_stays_within_memory_and_patch_size(injected):
    # 1,500 for a user; what only the tests need (scipy, Triton) is loaded where it is installed, and takes
    # another 110 to 150.
    assert injected.report["peak_memory_mb"] <= 1700
    assert injected.report["patch_bytes"] <= 15_000_000
    assert injected.report["seconds"]["training"] <= 600


def test_exit_code_says_whether_all_was_learned(injected):
    assert injected.code == (1 if injected.report["counts"]["failed"] else 0)


def test_ask_answers_with_provenance_and_without_the_edit(injected):
    fact = read_facts(FACTS)[0]
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
    assert len(facts) == 60
    for fact in facts:
        assert fact["outcome"]["before"] != fact["outcome"]["after"]


def test_undo_restores_the_logits_to_the_bit_and_redo_the_edit(injected, smollm2_folder):
    import torch
    from transformers import LlamaForCausalLM

    import memedit

    fact = read_facts(FACTS)[0]
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
    base = LlamaForCausalLM.from_pretrained(smollm2_folder, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        assert torch.equal(undone, base(ids).logits)
    assert not torch.equal(edited, undone)


def test_a_second_injection_finds_its_facts_in_the_store(injected):
    result = CliRunner().invoke(
        cli, ["inject", str(FACTS), "--store", str(injected.store), "--json"], catch_exceptions=False
    )
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert report["counts"]["stored"] == 60
    assert report["edit"] is None


def test_the_edited_model_generates_and_is_saved_as_a_normal_folder(injected, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    import memedit

    fact = read_facts(FACTS)[0]
    with memedit.open(injected.store, read_only=True) as editor:
        ids = torch.tensor([[0, *editor.tokenizer(fact.prompt).input_ids]])
        told = editor.model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=2)
        editor.model.save_pretrained(tmp_path / "edited")
        decoded = editor.tokenizer.decode(told[0, ids.shape[1] :], skip_special_tokens=True)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    with torch.no_grad():
        assert torch.equal(told, again.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=2))
    assert decoded.strip().startswith(fact.target)
