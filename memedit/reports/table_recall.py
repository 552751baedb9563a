"""What recall is without parts of the memory: the table that `memedit show model --ablate` prints.

What: `print_table_recall`, which reads what `TableRecall.to_json` returned.
Why: one look must say whether answers rest on the value table: how many points fall with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from memedit.reports.corrections import share_text

__all__ = ["print_table_recall"]

_STATES = {
    "as_it_is": "as it is",
    "zeroed": "base rows zeroed",
    "shuffled": "base rows shuffled",
    "unwritten": "without written rows",
}
_RECALL = (
    "Greedy generation, natural stop, exact match of target or alias at the start. Brackets: 95 % interval; "
    "points: minus as it is, paired over facts. --json has each protocol in full."
)


def print_table_recall(console: Console, found: Mapping[str, Any]) -> None:
    """Print recall with the memory as it is, and with parts of it taken away.

    Args:
        console: Where to.
        found: What `TableRecall.to_json` returned.
    """
    states = found["states"]
    table = Table(box=None, pad_edge=False)
    for heading in ("value table", "asked in", "recall", "points"):
        table.add_column(heading, no_wrap=True)
    for state, recalled in states.items():
        changes = recalled["difference"] or [None] * len(recalled["recall"])
        for share, change in zip(recalled["recall"], changes, strict=True):
            table.add_row(_STATES[state], share["name"].replace("_", " "), share_text(share), _points(change))
    console.print(table)
    console.print(_RECALL, style="dim")
    for note in found["notes"]:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)


def _points(change: Mapping[str, Any] | None) -> str:
    if change is None:
        return ""
    value, low, high = (100 * change[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
