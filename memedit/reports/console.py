"""The console that reports are printed on, and text made safe for it.

What: `report_console` and `one_line`.
Why: a report must fit the terminal, stay readable in a pipe, and never let a model's text move the cursor,
colour the screen or turn the reading direction around.
How: rich on stdout; what comes from a model or a file goes through `one_line` and is never read as markup.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

from rich.console import Console

__all__ = ["one_line", "report_console"]

_PIPE_WIDTH = 100
# Joiners, which Persian, Indic scripts and emoji need; every other format character is shown by its code.
_HARMLESS = frozenset("\u200c\u200d")


def report_console() -> Console:
    """Return a console on stdout: as wide as the terminal, 100 columns in a pipe unless COLUMNS is set."""
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal without Unicode shows "?" for what it lacks instead of ending in an error.
        sys.stdout.reconfigure(errors="replace")
    sized = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if sized else _PIPE_WIDTH, highlight=False, markup=False, emoji=False)


def one_line(text: str) -> str:
    """Return `text` on one line: spaces collapsed, control characters written as their codes."""
    return "".join(
        char if char.isprintable() or char in _HARMLESS else char.encode("unicode_escape").decode("ascii")
        for char in " ".join(text.split())
    )
