"""JUnit XML of a suite: valid, complete, and safe whatever the model says."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from xml.etree import ElementTree as ET

import pytest

from memedit.evaluation.generation import Generation
from memedit.evaluation.regression import run_suite
from memedit.evaluation.suites import GivenAnswer, Suite, SuiteItem
from memedit.reports.junit import junit_xml

NASTY = "<&>\"']]> \x00\x1b[31m\x7f\u202e\ufffe \ud800 \U0001f600 \r\n\t --> caf\u00e9"
CREATED = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone.utc)
# What both common schemas demand of a suite, and what they allow.
SUITE_ATTRIBUTES = {
    *("name", "package", "id", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname")
}


class Says:
    def __init__(self, answers):
        self.answers = answers

    def answer(self, prompts, **_):
        return [Generation(self.answers.get(prompt, "yes"), (1,), 0.5, "eos") for prompt in prompts]

    def count_tokens(self, texts):
        return [1 for _ in texts]


def item(name, group="known", *, correct=True, prompt=None, text="yes"):
    return SuiteItem(name, prompt or f"p {name}", ("yes",), group, GivenAnswer(text, correct, 0.9))


def report(items, answers=(), **changes):
    result = run_suite(Says(dict(answers)), Suite(tuple(items), **changes))
    written = junit_xml(result, model="m<1>", created=CREATED)
    root = ET.fromstring(written)
    require_schema(root)
    return root


def require_schema(root):
    """The rules of Jenkins' and of Ant's schema that this document could break."""
    assert (root.tag, root.attrib) == ("testsuites", {})
    (suite,) = root
    assert set(suite.attrib) == SUITE_ATTRIBUTES
    assert [each.tag for each in suite if each.tag != "testcase"] == [
        "properties",
        "system-out",
        "system-err",
    ]
    assert suite[0].tag == "properties"
    assert (suite[-2].tag, suite[-1].tag) == ("system-out", "system-err")
    assert all(set(each.attrib) == {"name", "value"} for each in suite.find("properties"))
    cases = suite.findall("testcase")
    for case in cases:
        assert set(case.attrib) == {"classname", "name", "time"}
        assert re.fullmatch(r"\d+\.\d{3}", case.get("time"))
        assert len(case) <= 1
        assert all(each.tag in ("failure", "skipped") for each in case)
        assert all(set(each.attrib) == {"type", "message"} for each in case)
    assert int(suite.get("tests")) == len(cases)
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure"))
    assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp"))


def test_one_case_a_fact():
    items = [*(item(f"k{n}") for n in range(30)), item("n", correct=False, text="no")]
    root = report(items, {"p k3": "no", "p n": "no"})
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("31", "0", "2")
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert cases["p k0 [k0]"].get("classname") == "memedit.known"
    assert len(cases["p k0 [k0]"]) == 0
    (tolerated,), (unknown,) = cases["p k3 [k3]"], cases["p n [n]"]
    assert (tolerated.tag, tolerated.get("type")) == ("skipped", "tolerated")
    assert "not significantly more than the allowed 2.0%" in tolerated.get("message")
    assert (unknown.get("type"), unknown.get("message")) == (
        "not_known",
        "wrong at the baseline and wrong now",
    )
    properties = {each.get("name"): each.get("value") for each in suite.find("properties")}
    assert properties["model"] == "m<1>"
    assert "greedy generation" in properties["protocol"]
    assert "1 of 30 lost" in suite.find("system-out").text
    assert suite.get("timestamp") == "2026-01-02T03:04:05"


def test_a_regression_has_both_texts():
    root = report([item(f"k{n}") for n in range(10)], {f"p k{n}": f"no {n}" for n in range(4)})
    failures = root.findall("testsuite/testcase/failure")
    assert len(failures) == 4
    assert failures[1].get("type") == "regression"
    assert "4 of 10 lost" in failures[1].get("message")
    assert "before    'yes'  (confidence 0.90)\n    now       'no 1'" in failures[1].text


def test_one_case_a_group():
    items = [*(item(f"a{n}", "a") for n in range(4)), *(item(f"b{n}", "b") for n in range(4))]
    root = report(items, {f"p b{n}": "no" for n in range(4)}, collect="group")
    cases = {case.get("name"): [each.tag for each in case] for case in root.findall("testsuite/testcase")}
    assert cases == {"a": [], "b": ["failure"], "all groups": ["failure"]}
    assert root.find("testsuite/testcase/failure").text.count("now       'no'") == 4


@pytest.mark.parametrize("char", [*NASTY, "\x0b", "\ud83d", "\uffff", "\u2028", "\x85"])
def test_every_character_can_be_in_every_text(char):
    prompt = f"p {char} q"
    nasty = SuiteItem("x", prompt, (f"a{char}",), "g\u00e9<&", GivenAnswer(f"t{char}", correct=True))
    require_schema(report([nasty], {prompt: f"n{char}"}))


def test_what_xml_cannot_hold_is_written_as_its_code():
    nasty = SuiteItem("x", NASTY, (NASTY,), "g", GivenAnswer(NASTY, correct=True))
    root = report([nasty], {NASTY: "\x1b" + NASTY})
    name = root.find("testsuite/testcase").get("name")
    assert "<&>\"']]> \\x00\\x1b[31m\x7f\u202e\\ufffe \\ud800 \U0001f600" in name
    assert "'\\x1b<&>" in root.find("testsuite/testcase/failure").text
