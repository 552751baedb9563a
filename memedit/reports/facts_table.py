"""The table of facts: what the model said before and after, and what became of each fact.

What: `FactRow`, made from an edit's outcomes or from the journal's, `facts_table`, and `chosen_rows`.
Why: the model's own text, before and after, is what people want to see first, both after `inject` and later.
How: one line a fact, cut to the width; a fact that failed is never left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from memedit.reports.console import one_line

if TYPE_CHECKING:
    from memedit.editor import FactOutcome
    from memedit.store import StoredFact

__all__ = ["MAX_ROWS", "FactRow", "chosen_rows", "facts_table"]

MAX_ROWS = 20
"""How many facts are shown unless all are asked for; failed ones come on top of that."""
_STATUSES = {
    "learned": ("learned", "green"),
    "already_known": ("already known", "cyan"),
    "stored": ("in the store", "cyan"),
    "failed": ("failed", "bold red"),
    "forgotten": ("forgotten", "yellow"),
}


@dataclass(frozen=True)
class FactRow:
    """What a report says of one fact.

    Args:
        prompt: The fact's own prompt.
        target: The answer that was taught.
        status: `learned`, `already_known`, `stored`, `failed` or `forgotten`.
        before: The model's text before the edit, or None where it was not asked.
        after: The model's text after it, or None.
        other_wordings: For each wording that was never trained, whether the answer was right.
        note: What else is to be said, such as why it failed.
        fact_id: The fact's id, where it is to be shown.
    """

    prompt: str
    target: str
    status: str
    before: str | None
    after: str | None
    other_wordings: tuple[bool, ...] = ()
    note: str | None = None
    fact_id: str | None = None

    @classmethod
    def from_outcome(cls, outcome: FactOutcome) -> FactRow:
        """Return the row of a fact that was just injected."""
        return cls(
            outcome.fact.prompt,
            outcome.fact.target,
            outcome.status,
            outcome.before,
            outcome.after,
            (*outcome.held_out, *outcome.question),
            outcome.note,
        )

    @classmethod
    def from_stored(cls, stored: StoredFact) -> FactRow:
        """Return the row of a fact in the journal."""
        outcome: dict[str, Any] = dict(stored.outcome)
        return cls(
            stored.fact.prompt,
            stored.fact.target,
            str(outcome.get("status", "")),
            outcome.get("before"),
            outcome.get("after"),
            (*outcome.get("held_out", ()), *outcome.get("question", ())),
            f"taken out by {stored.withdrawn_by}" if stored.withdrawn_by else outcome.get("note"),
            stored.fact.id,
        )


def chosen_rows(rows: Sequence[FactRow], limit: int | None) -> list[FactRow]:
    """Return the rows to show, in their order: every failed one, and others up to `limit` rows in all.

    Args:
        rows: All of them.
        limit: How many, None for all.
    """
    if limit is None:
        return list(rows)
    room = max(0, limit - sum(row.status == "failed" for row in rows))
    others = [index for index, row in enumerate(rows) if row.status != "failed"][:room]
    shown = {*others, *(index for index, row in enumerate(rows) if row.status == "failed")}
    return [row for index, row in enumerate(rows) if index in shown]


def facts_table(rows: Sequence[FactRow]) -> Table:
    """Return the table of these facts; every cell is cut to the width there is."""
    table = Table(box=None, pad_edge=False, expand=True)
    if any(row.fact_id for row in rows):
        table.add_column("fact", no_wrap=True, style="dim")
    table.add_column("prompt", ratio=5, no_wrap=True, overflow="ellipsis")
    table.add_column("before", ratio=3, no_wrap=True, overflow="ellipsis", style="dim")
    table.add_column("after", ratio=3, no_wrap=True, overflow="ellipsis")
    if any(row.other_wordings for row in rows):
        # Said short, since the column is narrow: right answers in wordings that were never trained.
        table.add_column("reworded", no_wrap=True, justify="right")
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, rows))
    return table


def _cells(row: FactRow, rows: Sequence[FactRow]) -> list[Text]:
    label, style = _STATUSES.get(row.status, (row.status, ""))
    cells = [Text(one_line(row.prompt)), _said(row.before), _said(row.after)]
    if any(each.fact_id for each in rows):
        cells.insert(0, Text(one_line(row.fact_id or "")))
    if any(each.other_wordings for each in rows):
        cells.append(
            Text(f"{sum(row.other_wordings)}/{len(row.other_wordings)}" if row.other_wordings else "")
        )
    return [*cells, Text(label, style=style)]


def _said(text: str | None) -> Text:
    if text is None:
        return Text("-", style="dim")
    return Text(one_line(text)) if text.strip() else Text("(nothing)", style="dim")
