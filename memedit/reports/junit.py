"""A suite's result as JUnit XML, which every CI server reads.

What: `junit_xml`.
Why: a lost fact then shows beside the failed tests of the code, with both texts.
How: one <testcase> for each of the suite's cases; a fact that is lost within the allowance, or was never
known, is <skipped> with the reason. Elements, their order and their attributes are those that both common
schemas accept (Jenkins' and Ant's). Characters that XML cannot hold are written as their codes.
"""

from __future__ import annotations

import re
from datetime import datetime
from xml.etree import ElementTree as ET

from memedit.evaluation.regression import SuiteResult
from memedit.evaluation.suite_cases import Case, cases_of

__all__ = ["junit_xml"]

_CLASS = "memedit"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TYPES = {"failed": "regression", "tolerated": "tolerated", "not_known": "not_known"}


def junit_xml(result: SuiteResult, *, model: str, created: datetime) -> bytes:
    """Return a report as JUnit XML.

    Args:
        result: What `Editor.test` returned.
        model: Name of the model.
        created: When the suite was run.
    Returns:
        A UTF-8 document with one <testsuite>. All questions are asked together, so each case has an equal
        share of the time.
    """
    cases = cases_of(result)
    attributes = {
        "name": _text(result.suite.shown_name),
        "package": _CLASS,
        "id": "0",
        "tests": str(len(cases)),
        "failures": str(sum(case.outcome == "failed" for case in cases)),
        "errors": "0",
        "skipped": str(sum(case.outcome in ("tolerated", "not_known") for case in cases)),
        "time": f"{result.seconds:.3f}",
        "timestamp": created.strftime("%Y-%m-%dT%H:%M:%S"),
        "hostname": "localhost",
    }
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", attributes)
    properties = ET.SubElement(suite, "properties")
    for name, value in (("model", model), ("protocol", result.metric.protocol)):
        ET.SubElement(properties, "property", {"name": name, "value": _text(value)})
    for case in cases:
        _add_case(suite, case, result.seconds / len(cases))
    verdicts = [group.describe() for group in (result.overall, *result.groups)]
    ET.SubElement(suite, "system-out").text = _text("\n".join(verdicts))
    ET.SubElement(suite, "system-err")
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _add_case(suite: ET.Element, case: Case, seconds: float) -> None:
    attributes = {
        "classname": _text(f"{_CLASS}.{case.group}"),
        "name": _text(case.title),
        "time": f"{seconds:.3f}",
    }
    element = ET.SubElement(suite, "testcase", attributes)
    if case.outcome == "passed":
        return
    tag = "failure" if case.outcome == "failed" else "skipped"
    verdict = ET.SubElement(element, tag, {"type": _TYPES[case.outcome], "message": _text(case.message)})
    verdict.text = _text(case.detail())


def _text(text: str) -> str:
    """The text with every character that XML 1.0 cannot hold written as its code."""
    return _NO_XML.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)
