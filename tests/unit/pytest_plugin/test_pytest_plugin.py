"""The pytest plugin, in processes of its own on made-up projects: what is collected, and what fails.

The plugin is named with -p and other plugins are left out, so that it makes no difference how memedit and
pytest are installed. Most projects replace the editor by one that answers from a table, which needs no torch.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
import small_world
from saved_world import HARMFUL, commit_patch, save_world

import memedit
from memedit.evaluation import write_suite
from memedit.evaluation.suites import GivenAnswer, Suite, SuiteItem

ROOT = Path(memedit.__file__).parents[1]
# A conftest.py whose editor answers every question right but those in lost.json, and says when it is called.
CONFTEST = """
import json, sys, types, warnings
from pathlib import Path
from types import SimpleNamespace
from memedit.errors import ModelUnavailable
from memedit.evaluation import run_suite

class Table:
    def __init__(self, lost):
        self.lost = lost
    def answer(self, prompts, **_):
        return [SimpleNamespace(text="no" if p in self.lost else "yes", confidence=0.5) for p in prompts]
    def count_tokens(self, texts):
        return [1 for _ in texts]

class Editor:
    def test(self, suite):
        print("SUITE ASKED")
        suite.require_model("this-model", "1" * 64)
        return run_suite(Table(json.loads(Path("lost.json").read_text())), suite)
    def close(self):
        print("EDITOR CLOSED")

def open_editor(store, model, *, read_only):
    print("MODEL LOADED", read_only)
    warnings.warn("old", DeprecationWarning)
    if model == "broken":
        raise ModelUnavailable("the model broken cannot be had", remedy="Choose another.")
    return Editor()

sys.modules["memedit.editor"] = types.ModuleType("memedit.editor")
sys.modules["memedit.editor"].open_editor = open_editor
"""


def items(num, group="ours"):
    right = GivenAnswer("yes", correct=True, confidence=0.9)
    return tuple(SuiteItem(f"{group}-{n}", f"{group} {n} is", ("yes",), group, right) for n in range(num))


SUITE = Suite((*items(40), *items(20, "theirs")), model="this-model", fingerprint="1" * 64)


class Project:
    """A folder with a store, where pytest can be run."""

    def __init__(self, root, conftest=CONFTEST):
        self.root = root
        (root / ".memedit").mkdir(parents=True)
        (root / ".memedit" / "journal.sqlite").touch()
        (root / "conftest.py").write_text(conftest)
        (root / "test_theirs.py").write_text("def test_theirs():\n    assert True\n")
        self.lose()

    def lose(self, *prompts):
        """Make the editor answer these prompts wrong."""
        (self.root / "lost.json").write_text(json.dumps(prompts))

    def write(self, suite=SUITE, path="knowledge.toml"):
        """Write a suite."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        write_suite(suite, self.root / path)

    def pytest(self, *arguments, store=".memedit", cwd=None):
        """Run pytest; with the store unless None."""
        options = [] if store is None else ["--memedit-store", store]
        environment = {
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "COLUMNS": "200",
        }
        environment.pop("PYTEST_ADDOPTS", None)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "memedit.pytest_plugin", *options, *arguments],
            cwd=cwd or self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return SimpleNamespace(code=done.returncode, out=done.stdout + done.stderr, **outcomes(done.stdout))


def outcomes(text):
    """The counts of pytest's last line."""
    found = dict.fromkeys(("passed", "failed", "skipped", "xfailed", "deselected", "error"), 0)
    summary = re.findall(r"^=* ?(\d+ .* in [\d.]+s.*)$", text, flags=re.MULTILINE)
    for count, name in re.findall(r"(\d+) ([a-z]+)", summary[-1] if summary else ""):
        if (name := name.removesuffix("s")) in found:
            found[name] = int(count)
    return found


@pytest.fixture
def project(tmp_path):
    """A project whose editor answers from a table."""
    return Project(tmp_path / "project")


def test_one_test_a_fact(project):
    unknown = SuiteItem("unknown", "who?", ("x",), "ours", GivenAnswer("y", correct=False))
    project.write(replace(SUITE, items=(*SUITE.items, unknown)))
    done = project.pytest("-v")
    assert (done.code, done.passed, done.skipped) == (0, 61, 1), done.out
    assert "memedit: store " in done.out
    assert "knowledge.toml::ours-0 PASSED" in done.out
    assert "knowledge.toml::unknown SKIPPED" in done.out


def test_one_test_a_group(project):
    project.write(replace(SUITE, collect="group"))
    done = project.pytest("-v")
    assert (done.code, done.passed) == (0, 4), done.out
    for name in ("ours", "theirs", "all groups"):
        assert f"knowledge.toml::{name} PASSED" in done.out


def test_a_loss_fails_with_both_texts_and_no_traceback(project, tmp_path):
    project.write()
    project.lose(*(item.prompt for item in items(6)))
    done = project.pytest(f"--junitxml={tmp_path / 'report.xml'}")
    assert (done.code, done.failed, done.passed) == (1, 6, 55)
    assert (
        "'ours 3 is'\n    expected  'yes'\n    before    'yes'  (confidence 0.90)\n    now       'no'"
        in done.out
    )
    assert "ours: 6 of 40 lost (15.0%), more than the allowed 2.0%" in done.out
    assert "Traceback" not in done.out
    assert "pytest_plugin.py" not in done.out
    suite = ET.parse(tmp_path / "report.xml").getroot().find("testsuite")
    assert suite.get("failures") == "6"


def test_a_single_loss_within_the_allowance_is_shown_but_does_not_fail(project):
    project.write()
    project.lose("ours 7 is")
    done = project.pytest("-rx")
    assert (done.code, done.failed, done.xfailed) == (0, 0, 1), done.out
    assert "XFAIL knowledge.toml::ours-7 - " in done.out
    assert "ours: 1 of 40 lost (2.5%), not significantly more than the allowed 2.0%" in done.out
    project.write(replace(SUITE, group_max_loss={"ours": 0.0}))
    done = project.pytest()
    assert (done.code, done.failed, done.xfailed) == (1, 1, 0), done.out


def test_the_verdict_needs_the_whole_suite_whatever_was_selected(project):
    project.write()
    project.lose(*(item.prompt for item in items(6)))
    done = project.pytest("knowledge.toml::ours-3")
    assert (done.code, done.failed, done.passed) == (1, 1, 0)
    assert "6 of 40 lost" in done.out


def test_suites_are_found_wherever_they_are(project):
    project.write(path="deep/down/knowledge.toml")
    project.write(path="deep/knowledge.jsonl")
    project.write(path=".hidden/named.toml")
    assert project.pytest("--collect-only", "-q").out.count("knowledge.") == 120
    named = ("--memedit-suite", ".hidden/named.toml", "--memedit-suite", "deep/knowledge.jsonl")
    done = project.pytest(*named, "--collect-only", "-q").out
    # Named and found: collected once.
    assert [done.count(f"{name}::") for name in ("named.toml", ".jsonl", "down/knowledge.toml")] == [
        60,
        60,
        60,
    ]
    done = project.pytest(*named, "test_theirs.py")
    assert (done.code, done.passed) == (0, 121), done.out


def test_testpaths_do_not_hide_the_suite_at_the_root(project):
    (project.root / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    (project.root / "tests").mkdir()
    (project.root / "test_theirs.py").rename(project.root / "tests" / "test_theirs.py")
    project.write()
    done = project.pytest()
    assert (done.code, done.passed) == (0, 61), done.out
    # Whoever names files gets just these.
    done = project.pytest("tests/test_theirs.py")
    assert (done.code, done.passed) == (0, 1), done.out
    assert "MODEL LOADED" not in done.out


def test_a_suite_outside_the_project(project, tmp_path):
    write_suite(SUITE, tmp_path / "shared.toml")
    done = project.pytest("--memedit-suite", "../shared.toml", "test_theirs.py")
    assert (done.code, done.passed) == (0, 61), done.out


def test_the_model_is_loaded_once_and_each_suite_asked_in_one_pass(project):
    project.write()
    project.write(path="more/knowledge.toml")
    done = project.pytest("-s")
    assert (done.code, done.passed) == (0, 121), done.out
    asked = ("MODEL LOADED True", "SUITE ASKED", "EDITOR CLOSED")
    assert [done.out.count(said) for said in asked] == [1, 2, 1]


def test_a_strict_project_is_left_in_peace(project):
    # The table's editor warns when it is opened, as libraries do.
    (project.root / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\naddopts = --strict-markers --strict-config\nxfail_strict = true\n"
    )
    project.write()
    project.lose("ours 7 is")
    done = project.pytest()
    assert (done.code, done.passed, done.xfailed) == (0, 60, 1), done.out


def test_a_damaged_suite_is_one_error_with_its_line(project):
    (project.root / "knowledge.toml").write_text(
        'memedit_suite = 1\n[[item]]\nid = "a"\nprompt = ""\nanswers = ["x"]'
    )
    for arguments in ((), ("test_theirs.py", "--memedit-suite", "knowledge.toml")):
        done = project.pytest(*arguments)
        assert (done.code, done.error) == (2, 1)
        assert "knowledge.toml:4: prompt must hold text" in done.out
        assert "Traceback" not in done.out


def test_a_suite_for_another_model_fails_with_both_names(project):
    project.write(replace(SUITE, model="llama-9b", fingerprint="0" * 64))
    done = project.pytest("-x")
    assert (done.code, done.failed) == (1, 1)
    assert "was made for the model llama-9b" in done.out
    assert "but this is the model this-model" in done.out
    assert "Traceback" not in done.out


def test_a_model_that_cannot_be_loaded_is_tried_once(project):
    project.write()
    done = project.pytest("-s", "--memedit-model", "broken")
    assert (done.code, done.failed, done.passed) == (1, 60, 1)
    assert "the model broken cannot be had\nChoose another." in done.out
    assert done.out.count("MODEL LOADED") == 1
    assert "Traceback" not in done.out


@pytest.mark.parametrize(
    ("arguments", "store", "said"),
    [
        ((), "elsewhere", "--memedit-store elsewhere: there is no store"),
        (("--memedit-suite", "no.toml"), ".memedit", "no.toml does not exist"),
        (("--memedit-suite", "test_theirs.py"), None, "--memedit-suite needs --memedit-store"),
        ((), ".memedit", "there is no knowledge.toml; `memedit suite build` makes one"),
    ],
)
def test_wrong_usage_is_one_line(project, arguments, store, said):
    done = project.pytest(*arguments, store=store)
    assert done.code == 4
    assert said in done.out
    assert "Traceback" not in done.out


def test_the_store_is_found_from_where_pytest_was_started(project):
    project.write(path="sub/knowledge.toml")
    project.lose()
    (project.root / "lost.json").rename(project.root / "sub" / "lost.json")
    done = project.pytest(store="../.memedit", cwd=project.root / "sub")
    assert (done.code, done.passed) == (0, 60), done.out


def test_without_the_option_nothing_happens(tmp_path):
    project = Project(tmp_path / "project", conftest="")
    project.write()
    (project.root / "test_theirs.py").write_text(
        "import sys\n"
        "def test_theirs(request):\n"
        "    found = {name for name in sys.modules if name.startswith('memedit')}\n"
        "    assert found == {'memedit', 'memedit.pytest_plugin'}\n"
        "    assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)\n"
        "    assert not request.config.pluginmanager.has_plugin('memedit-suites')\n"
    )
    done = project.pytest(store=None)
    assert (done.code, done.passed) == (0, 1), done.out
    assert "memedit: store" not in done.out


def test_a_real_model_with_a_harmful_edit(tmp_path):
    from memedit.evaluation import build_suite, suite_items
    from memedit.evaluation.respondent import ModelRespondent
    from memedit.modeling import model_fingerprint

    opened = small_world.opened_world()
    project = Project(tmp_path / "project", conftest="")
    (project.root / ".memedit" / "journal.sqlite").unlink()
    respondent = ModelRespondent(opened.model, opened.tokenizer)
    suite = build_suite(respondent, suite_items(small_world.known_facts())).suite
    fingerprint = model_fingerprint(opened.model)
    project.write(replace(suite, model="world", fingerprint=fingerprint))
    commit_patch(project.root / ".memedit", fingerprint, scale=HARMFUL)
    done = project.pytest("--memedit-model", str(save_world(tmp_path / "world")))
    assert done.code == 1, done.out
    assert done.failed + done.passed == 25
    assert done.failed > 12
    assert "more than the allowed 2.0%" in done.out
