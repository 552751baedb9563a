"""What `memedit test` and `memedit suite build` show: what was lost with both texts, and the verdict.

What: `print_suite_result`, `print_built_suite`.
Why: somebody whose build just failed must see at once which fact went, what the model said and says, and
whether that is more than the suite allows.
How: lost items first, the figures with their test below, the verdict last.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memedit.reports.console import one_line

if TYPE_CHECKING:
    from memedit.evaluation import BuiltSuite, GivenAnswer, Suite, SuiteResult
    from memedit.evaluation.regression import GroupResult, ItemResult

__all__ = ["print_built_suite", "print_suite_result"]

_MAX_SHOWN = 20
_HOW = (
    "greedy generation, natural stop, exact match at the start of the answer. Brackets: 95 % interval. p: "
    "exact one-sided binomial test of the loss against what is allowed."
)


def print_suite_result(console: Console, result: SuiteResult, *, model: str, show_all: bool) -> None:
    """Print what a model still knows of a suite.

    Args:
        console: Where to.
        result: What `Editor.test` returned.
        model: Name of the model.
        show_all: Show every lost and gained item, not only 20 of each.
    """
    suite = result.suite
    console.print(f"{suite.shown_name}: {len(suite.items)} items, asked of {model}", soft_wrap=True)
    _print_changed(console, "lost", "red", [each for each in result.items if each.lost], show_all=show_all)
    _print_changed(
        console, "gained", "green", [each for each in result.items if each.gained], show_all=show_all
    )
    console.print()
    console.print(_figures(result))
    console.print(_HOW, style="dim")
    if not result.retention.right_before:
        console.print("note: nothing was right at the baseline, so nothing can be lost", style="yellow")
    console.print()
    for reason in result.reasons:
        console.print(f"regression: {reason}", style="bold red", soft_wrap=True)
    if result.passed:
        console.print(f"passed in {result.seconds:.1f} s: {result.overall.describe()}", style="bold green")


def print_built_suite(
    console: Console, built: BuiltSuite, *, path: Path, whole: Suite, next_command: str
) -> None:
    """Print what a new suite holds.

    Args:
        console: Where to.
        built: What `Editor.build_suite` returned.
        path: Where it is now.
        whole: Everything that is in the file.
        next_command: What to run next.
    """
    kept = Counter(item.group for item in built.suite.items)
    for group, asked in built.asked.items():
        console.print(f"{group}: {asked} asked, {kept[group]} in the suite", soft_wrap=True)
    for item in built.unknown[:_MAX_SHOWN]:
        line = Text("  not known now: ", style="yellow")
        line.append(one_line(item.prompt), style="default")
        console.print(line, soft_wrap=True)
    if len(built.unknown) > _MAX_SHOWN:
        console.print(f"  and {len(built.unknown) - _MAX_SHOWN} more", style="yellow")
    console.print()
    console.print(f"{path} holds {len(whole.items)} items; commit it", style="bold green", soft_wrap=True)
    console.print(f"  {next_command}", soft_wrap=True)


def _print_changed(
    console: Console, label: str, style: str, results: list[ItemResult], *, show_all: bool
) -> None:
    shown = results if show_all else results[:_MAX_SHOWN]
    for result in shown:
        line = Text(f"{label}: ", style=style)
        line.append(one_line(result.item.prompt), style="default")
        line.append(f"  [{' | '.join(map(one_line, result.item.answers))}]", style="dim")
        console.print(line, soft_wrap=True)
        console.print(_said("before", result.item.baseline), soft_wrap=True)
        console.print(_said("now", result.now), soft_wrap=True)
    if len(shown) < len(results):
        console.print(f"and {len(results) - len(shown)} more {label}; --all shows them", style="dim")


def _said(when: str, answer: GivenAnswer | None) -> Text:
    line = Text(f"  {when:<7} ", style="dim")
    if answer is None:
        return line.append("(no baseline: it must be right)", style="dim")
    text = one_line(answer.text)
    line.append(text or "(nothing)", style="default" if text else "dim")
    if answer.confidence is not None:
        line.append(f"  confidence {answer.confidence:.2f}", style="dim")
    return line


def _figures(result: SuiteResult) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("group", no_wrap=True)
    for heading in ("right before", "lost", "gained", "retained", "", "allowed", "p"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("", no_wrap=True)
    judged = result.groups if len(result.groups) == 1 else (*result.groups, result.overall)
    for group in judged:
        table.add_row(*_row(group))
    return table


def _row(group: GroupResult) -> list[Text]:
    metric = group.retention.metric
    known = group.retention.right_before > 0
    cells = [
        one_line(group.name),
        str(group.retention.right_before),
        str(len(group.retention.lost)),
        str(group.retention.gained),
        f"{metric.value:.1%}" if known else "-",
        f"[{metric.low:.1%}, {metric.high:.1%}]" if known else "",
        f"{group.max_loss:.1%}",
        f"{group.p_value:.2g}" if group.p_value >= 0.001 else "<0.001",
    ]
    verdict = Text("ok", style="green") if group.passed else Text("too much", style="bold red")
    return [*map(Text, cells), verdict]
