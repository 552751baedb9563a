"""The results of an ablation as tables.

What: `print_table` for the terminal, `markdown` for a document.
Why: a document quotes what a command printed from the JSON file, and nothing else.
How: each cell is a number with its 95 % interval and, below it, its paired difference to the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from memedit.reports.console import report_console

Values = Mapping[str, Any]
TITLES = {"edits": "Edits", "gates": "Gates alone (nothing trained)"}
_SHARES_OF_ONE = {"perplexity_ratio"}
_COSTS = {"row_reads_per_fact": "{:.1f}", "seconds": "{:.1f}", "mean_threshold": "{:.3f}"}


def cells(result: Values) -> dict[str, str]:
    """The numbers of one variant as text, by measure; shares in per cent.

    Args:
        result: of one variant.

    Returns:
        "value [low, high]" of each measure, followed where there is a default by "difference [low, high]";
        then the costs.
    """
    shown = {}
    for name, metric in result["metrics"].items():
        lines = [_interval(metric, "{:.4f}" if name in _SHARES_OF_ONE else None)]
        paired = (result.get("against_default") or {}).get(name)
        lines += [_interval(paired, None, signed=True)] if paired else []
        shown[name] = "\n".join(lines)
    costs = {
        name: form.format(result["costs"][name]) for name, form in _COSTS.items() if name in result["costs"]
    }
    return {**shown, **costs}


def _interval(metric: Values, form: str | None, *, signed: bool = False) -> str:
    """A number with its interval: in per cent, or in the form given."""
    if metric["value"] is None:
        return "-"
    sign = "+" if signed else ""
    ends = [
        "?" if metric[key] is None else form.format(metric[key]) if form else f"{100 * metric[key]:{sign}.1f}"
        for key in ("value", "low", "high")
    ]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]"


def _columns(results: Values) -> list[str]:
    """All measures and costs, in order of first appearance."""
    return list(dict.fromkeys(name for result in results.values() for name in cells(result)))


def print_table(values: Values, part: str) -> None:
    """Print the results in the terminal, one block for each variant.

    Args:
        values: what recipes/ablations.py wrote.
        part: "edits" or "gates".
    """
    console = report_console()
    table = Table(box=box.SIMPLE, title=TITLES[part], pad_edge=False)
    for column in ("variant", "measure", "value, % [95 %]", "against default"):
        table.add_column(column)
    for name, result in values[part].items():
        for place, (measure, text) in enumerate(cells(result).items()):
            value, _, paired = text.partition("\n")
            table.add_row("" if place else name, measure, value, paired)
        table.add_section()
    console.print(table)


def markdown(values: Values) -> str:
    """The results as markdown tables, each with the commands, commits and n that it rests on.

    Args:
        values: what recipes/ablations.py wrote.

    Returns:
        A table of the edits and one of the gates; only what the file has.
    """
    parts = [_part(TITLES[part], values[part], values["identity"]) for part in TITLES if values[part]]
    return "\n\n".join(parts)


def _part(title: str, results: Values, identity: Values) -> str:
    columns = _columns(results)
    rows = [["variant", *columns], ["---"] * (len(columns) + 1)]
    for name, result in results.items():
        shown = cells(result)
        rows.append([name, *(shown.get(column, "").replace("\n", "<br>") for column in columns)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    counts = {name: metric["n"] for result in results.values() for name, metric in result["metrics"].items()}
    made = [result["made_with"] for result in results.values()]
    commands, commits = (sorted({str(one[key]) for one in made}) for key in ("command", "commit"))
    finished = max(one["finished"] for one in made)
    about = (
        f"**{title}.** {identity['num']} facts, {identity['model']}, seed {identity['seed']}; "
        f"commit {', '.join(commits)}, torch {made[0]['versions']['torch']}, {made[0]['threads']} threads, "
        f"{finished}. Per cent with the 95 % interval; second line: paired difference to the default. "
        f"n: {', '.join(f'{name} {count}' for name, count in counts.items())}."
    )
    told = "\n".join(["```", *commands, "```"])
    return "\n\n".join([about, told, "\n".join(lines)])
