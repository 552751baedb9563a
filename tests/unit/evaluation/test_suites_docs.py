"""docs/testing-knowledge.md: its example is a suite, its keys are the keys, its numbers are the numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memedit.evaluation.statistics import binomial_tail
from memedit.evaluation.suite_files import read_suite
from memedit.evaluation.suites import SuiteItem

DOCS = (Path(__file__).parents[3] / "docs" / "testing-knowledge.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path):
    """The suite that the document shows."""
    path = tmp_path / "knowledge.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", DOCS, re.DOTALL).group(1), encoding="utf-8")
    return read_suite(path)


def test_the_example_is_a_suite(example):
    assert example.group_max_loss == {"products": 0.0}
    assert example.items[0].baseline.text == "Paris, which is"
    assert example.items[1] == SuiteItem(
        "returns", "Goods can be returned within", ("30 days", "thirty days"), "products"
    )


def test_every_key_is_documented():
    documented = re.findall(r"^\| `([a-z_.]+)` \| (?:must|none|0|`)", DOCS, re.MULTILINE)
    assert documented == [
        *("memedit_suite", "collect", "seed", "limits.max_loss", "limits.groups", "model"),
        *("item.id", "item.prompt", "item.answers", "item.group", "item.baseline"),
    ]


def test_the_smallest_failing_losses_are_right():
    sizes, losses = (
        [int(cell) for cell in re.search(rf"^\| {row} \|(.*)\|$", DOCS, re.MULTILINE).group(1).split("|")]
        for row in ("items right at the baseline", "lost, all items together")
    )
    for size, lost in zip(sizes, losses, strict=True):
        assert binomial_tail(lost, size, 0.02) < 0.05 <= binomial_tail(lost - 1, size, 0.02)
