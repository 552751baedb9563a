"""What a correction shows: old answer and new, and which of them the model gives now.

What: `print_corrections`, and the lines that reports of other revisions have in common with it.
Why: who corrects a fact must see that the new answer is given in other wordings too, and the old one is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from memedit.reports.console import one_line

__all__ = ["MAX_ITEMS", "print_again", "print_corrections", "print_more", "share_text"]

MAX_ITEMS = 20
"""How many items of a list are shown."""
_SAID = (
    ("trained_wording", "own prompt"),
    ("held_out_wording", "held-out wordings"),
    ("question", "questions"),
)


def print_corrections(console: Console, report: Mapping[str, Any]) -> None:
    """Print which stored answers were replaced, and which answer the model gives now.

    Args:
        console: Where to.
        report: The object that `inject --json` prints; nothing is printed where it corrects nothing.
    """
    corrections = report.get("corrections")
    if not corrections:
        return
    for item in corrections["replaced"][:MAX_ITEMS]:
        line = Text("  corrected: ", style="yellow")
        line.append(one_line(item["prompt"]), style="default")
        change = f"  {one_line(item['old_target'])!r} -> {one_line(item['new_target'])!r}"
        line.append(change, style="default")
        console.print(line)
    print_more(console, corrections["replaced"])
    for says, label in (("says_new", "answers with the new target"), ("says_old", "with the old one")):
        shares = [f"{where} {share_text(corrections[says][group])}" for group, where in _SAID]
        console.print(f"  {label}: {'; '.join(shares)}")
    print_again(console, report.get("taught_again", ()))
    console.print()


def print_again(console: Console, again: Sequence[Mapping[str, Any]]) -> None:
    """Print the facts that lost their rows to others and were taught again.

    Args:
        console: Where to.
        again: The objects under `taught_again` in a report.
    """
    for item in again[:MAX_ITEMS]:
        line = Text(f"  taught again ({item['status']}): ", style="cyan")
        line.append(f"{one_line(item['prompt'])}  {one_line(item['after'] or '')!r}", style="default")
        console.print(line)
    print_more(console, again)


def print_more(console: Console, items: Sequence[object]) -> None:
    """Print how many items were not shown, where there are any."""
    if len(items) > MAX_ITEMS:
        console.print(f"  and {len(items) - MAX_ITEMS} more; --json lists all", style="dim")


def share_text(metric: Mapping[str, Any]) -> str:
    """Return a share with its interval and n, as people read it."""
    if metric["value"] is None:
        return "not asked"
    return f"{metric['value']:.1%} [{metric['low']:.1%}, {metric['high']:.1%}] n {metric['n']:,}"
