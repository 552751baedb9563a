"""Tables: which facts are shown, how text is made safe, how wide lines get."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from memedit.reports.console import one_line, report_console
from memedit.reports.facts_table import FactRow, chosen_rows, facts_table
from memedit.reports.figures import counts_line, patch_size, print_figures


def rows(*statuses):
    return [
        FactRow(f"prompt {i}", f"target {i}", status, "before", "after") for i, status in enumerate(statuses)
    ]


def printed(*renderables, width=100):
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    for renderable in renderables:
        console.print(renderable)
    return console.file.getvalue()


def test_failed_facts_are_always_chosen():
    some = rows(*["learned"] * 30, *["failed"] * 3)
    chosen = chosen_rows(some, 20)
    assert len(chosen) == 20
    assert chosen[-3:] == some[-3:]
    assert chosen[:17] == some[:17]
    assert chosen_rows(some, None) == some
    assert chosen_rows(rows(*["failed"] * 25, "learned"), 20) == rows(*["failed"] * 25)
    assert chosen_rows(some[:5], 20) == some[:5]


def test_every_fact_is_one_line_of_the_given_width():
    long = FactRow(
        "A prompt of many words " * 10, "x", "learned", "before " * 30, "after " * 30, (True, False)
    )
    lines = printed(facts_table([long, *rows("failed")]), width=80).splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].count("\u2026") == 3
    assert "1/2" in lines[1]
    assert lines[2].rstrip().endswith("failed")


def test_column_of_other_wordings_only_where_there_are_any():
    assert "reworded" in printed(facts_table([FactRow("p", "t", "learned", "b", "a", (True,))]))
    assert "reworded" not in printed(facts_table(rows("learned")))


def test_what_was_not_asked_and_what_was_empty():
    screen = printed(facts_table([FactRow("p", "t", "stored", "", None)]))
    assert "(nothing)" in screen
    assert " - " in screen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tand  spaces ", "two lines and spaces"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202eturned", "\\u202eturned"),
        ("[bold]markup[/bold]", "[bold]markup[/bold]"),
        ("\u05d9\u05e8\u05d5\u05e9\u05dc\u05d9\u05dd", "\u05d9\u05e8\u05d5\u05e9\u05dc\u05d9\u05dd"),
        ("\u0645\u06cc\u200c\u0631\u0648\u062f", "\u0645\u06cc\u200c\u0631\u0648\u062f"),
    ],
)
def test_one_line(text, shown):
    assert one_line(text) == shown


def test_markup_in_a_models_text_is_text():
    screen = printed(facts_table([FactRow("[red]p", "t", "learned", "[/x]", "[link=u]a[/link]")]))
    assert "[red]p" in screen
    assert "[link=u]a[/link]" in screen


def test_console_in_a_pipe(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console = report_console()
    assert console.width == 100
    console.print("Erd\u0151s")
    stream.flush()
    assert stream.buffer.getvalue() == b"Erd?s\n"
    monkeypatch.setenv("COLUMNS", "66")
    assert report_console().width == 66


def test_counts_and_sizes():
    assert counts_line({"facts": 2, "learned": 1, "failed": 1}) == "2 facts: 1 learned, 1 failed"
    assert counts_line({}) == "? facts: not counted"
    assert (patch_size(900), patch_size(11_234_567)) == ("0.9 kB", "11.2 MB")


def test_lost_facts_are_listed_up_to_ten():
    console = Console(file=io.StringIO(), width=100, markup=False)
    lost = [{"prompt": f"prompt {i}", "before": "a", "after": "b"} for i in range(12)]
    gate = {"passed": True, "reasons": [], "notes": ["perplexity was not measured"]}
    retained = {"value": 0.9, "n": 120, "low": 0.8, "high": 0.95, "protocol": "p"}
    print_figures(console, {"retained_lost": lost, "metrics": {"retained": retained}, "gate": gate})
    screen = console.file.getvalue()
    assert screen.count("lost: ") == 10
    assert "and 2 more" in screen
    assert "facts right: 120 -> 108" in screen
    assert "note: perplexity was not measured" in screen
