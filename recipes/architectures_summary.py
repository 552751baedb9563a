"""What the runs of the comparison say together: means over seeds, and differences to the dense model.

What: `summary_of` all runs, and `markdown`, the tables of docs/results.md.
Why: three seeds are three models; what differs less than they do is no finding.
How: a mean over seeds has an interval over facts (all seeds are asked the same questions; a bootstrap draws
facts) and, apart from it, the lowest and the highest seed. A difference to the dense model pairs seeds and
questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from architectures_models import DENSE

from memedit.evaluation.recall import HELD_OUT_WORDING, TRAINED_WORDING, Question, protocol
from memedit.evaluation.samples import Sample, difference_metric, mean_metric

Values = dict[str, Any]
Runs = Sequence[Mapping[str, Any]]
PLAIN = (
    "width",
    "parameters",
    "active_parameters",
    "flops_per_token",
    "flops_without_head",
    "flops_against_dense",
    "tokens",
)
AVERAGED = ("loss", "tokens_per_second", "seconds", "processor_seconds")


def summary_of(runs: Runs, questions: Mapping[str, Sequence[Question]]) -> list[Values]:
    """Sum up the runs of each size, kind and number of slots.

    Args:
        runs: results of `result_of`.
        questions: what they were asked, by group.

    Returns:
        One entry each, in the order of the runs.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["size"], run["kind"], run["slots"]), []).append(run)
    return [
        _entry(same, groups.get((size, DENSE, None), []), questions) for (size, *_), same in groups.items()
    ]


def _entry(same: Runs, dense: Runs, questions: Mapping[str, Sequence[Question]]) -> Values:
    first = same[0]
    entry: Values = {name: first[name] for name in ("size", "kind", "slots", *PLAIN)}
    entry["seeds"] = [run["seed"] for run in same]
    entry |= {name: mean(run[name] for run in same) for name in AVERAGED}
    entry["answer_loss"] = {name: mean(run["answer_loss"][name] for run in same) for name in questions}
    if first["usage"]:
        for name in ("share_used", "kl_to_uniform"):
            entry[name] = mean(part[name] for run in same for part in run["usage"])
    entry["recall"] = {
        state: {group: _recall(same, state, group, asked[group]) for group in groups}
        for asked in [questions]
        for state, groups in first["recall"].items()
    }
    others = {run["seed"]: run for run in dense}
    paired = [(run, others[run["seed"]]) for run in same if run["seed"] in others]
    if paired and first["kind"] != DENSE:
        entry["against_dense"] = {
            group: _difference(paired, group, questions[group])
            for group in (TRAINED_WORDING, HELD_OUT_WORDING)
        }
    return entry


def _recall(same: Runs, state: str, group: str, questions: Sequence[Question]) -> Values:
    """Mean over seeds with an interval over facts, and each seed's own."""
    samples = [one for run in same for one in _samples(run, state, group, questions)]
    by_seed = [run["recall"][state][group]["value"] for run in same]
    return {**mean_metric(group, samples, protocol(group)).to_json(), "by_seed": by_seed}


def _difference(
    paired: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], group: str, questions: Sequence[Question]
) -> Values:
    before = [one for _, dense in paired for one in _samples(dense, "as_it_is", group, questions)]
    after = [one for run, _ in paired for one in _samples(run, "as_it_is", group, questions)]
    how = f"{protocol(group)}; minus the dense model of the same seed, paired bootstrap over facts"
    metric = replace(difference_metric(group, before, after, ""), protocol=how)
    by_seed = [
        run["recall"]["as_it_is"][group]["value"] - dense["recall"]["as_it_is"][group]["value"]
        for run, dense in paired
    ]
    return {**metric.to_json(), "by_seed": by_seed}


def _samples(run: Mapping[str, Any], state: str, group: str, questions: Sequence[Question]) -> list[Sample]:
    """Single answers; those to one fact stand or fall together."""
    right = run["items"][state][group]
    return [
        Sample(group, f"{run['seed']}/{number}", asked.fact_id, "", (), "", float(value))
        for number, (asked, value) in enumerate(zip(questions, right, strict=True))
    ]


def markdown(summary: Sequence[Mapping[str, Any]]) -> str:
    """The table of a summary: recall in per cent with the 95 % interval, and its lowest and highest seed."""
    header = (
        "| size | kind | slots | held-out wording | against dense | trained wording | never read | zeroed "
        "| answer loss | slots used | KL | parameters | active | MFLOPs/token | tokens/s |"
    )
    rows = [header, "|" + " --- |" * (header.count("|") - 1)]
    for entry in summary:
        recall = entry["recall"]
        zeroed = recall.get("zeroed", {}).get(HELD_OUT_WORDING)
        cells = [
            entry["size"],
            entry["kind"],
            _count(entry["slots"]),
            _share(recall["as_it_is"][HELD_OUT_WORDING], seeds=True),
            _share(entry.get("against_dense", {}).get(HELD_OUT_WORDING), sign="+", seeds=True),
            _share(recall["as_it_is"][TRAINED_WORDING]),
            _share(recall["as_it_is"]["never_read"]),
            _share(zeroed),
            f"{entry['answer_loss'][HELD_OUT_WORDING]:.3f}",
            f"{100 * entry['share_used']:.0f} %" if "share_used" in entry else "-",
            f"{entry['kl_to_uniform']:.2f}" if "kl_to_uniform" in entry else "-",
            _count(entry["parameters"]),
            _count(entry["active_parameters"]),
            f"{entry['flops_per_token'] / 1e6:.3f}",
            _count(round(entry["tokens_per_second"])),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _share(metric: Mapping[str, Any] | None, *, sign: str = "", seeds: bool = False) -> str:
    if metric is None or metric["value"] is None:
        return "-"
    value, low, high = (f"{100 * metric[name]:{sign}.1f}" for name in ("value", "low", "high"))
    text = f"{value} [{low}, {high}]"
    if seeds and len(metric["by_seed"]) > 1:
        ends = (f"{100 * end:{sign}.1f}" for end in (min(metric["by_seed"]), max(metric["by_seed"])))
        text += f"<br>seeds {' to '.join(ends)}"
    return text


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
