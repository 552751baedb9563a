"""Dense, mixture of experts, PEER, memory and memory+ at equal FLOPs and tokens: which recalls more facts?

What: trains tiny models of five kinds on 4,207 real facts, each from nothing, and writes one JSON file:
recall in trained and held-out wordings by generation, with the value table zeroed and shuffled as well, and
of facts that were never read; loss; slot usage; parameters, active parameters, FLOPs; tokens a second. Then
the number of slots is varied at the same FLOPs. --plot draws the figures.
Why: memory layers are said to hold more facts at equal work (Berges et al. 2024, arXiv 2412.09764). Whether
they do depends on size, time and rates, so it has to be seen where they pay and where they do not.
How: widths of FFNs and experts are solved so that the FLOPs of a forward agree with the dense model's within
2 %, the head left out. All read the same rows as often. A killed run goes on with the same command: a
finished model is not trained again.

Command:   python recipes/architectures.py --out architectures.json
           python recipes/keep_result.py architectures.json docs/results/architectures.json
           python recipes/architectures.py --table docs/results/architectures.json --plot docs/results
           ... --seeds 100 --kinds memory+ --sizes d32 --no-curve --set memory+.value_rate=0.03    a trial
           ... --smoke              a few hundred facts, models of a few thousand numbers
Needs:     pip install 'memedit[recipes]' for --plot
Time:      50 minutes on one core of a 2024 server; --smoke 10 s.
Result:    docs/results.md: memory+ recalls 5 to 6 points more than dense at both sizes, less than seeds
           differ by; PEER and MoE recall less than dense at the smaller one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from architectures_models import KINDS
from architectures_plan import Plan, changed, runs_of, smoke_plan
from architectures_runs import material_of, one_thread, result_of
from architectures_summary import markdown, summary_of
from lifelong_record import Record, made_with

from memedit.modeling.opening import quietly_loaded
from memedit.progress import NULL_PROGRESS, Progress
from memedit.reports.progress import rich_progress

Values = dict[str, Any]


def identity_of(plan: Plan) -> Values:
    """What must be the same for a comparison to be gone on with."""
    told: Values = json.loads(json.dumps(asdict(plan)))
    return told


def run(
    plan: Plan,
    record: Record,
    *,
    say: Callable[[str], None] = print,
    progress: Progress = NULL_PROGRESS,
) -> Values:
    """Train and measure every model of a plan that is not in the record yet.

    Args:
        plan: what is compared.
        record: where results are kept; written after every model.
        say: told of every model.
        progress: told of what takes time.

    Returns:
        The values of the record.
    """
    one_thread()
    quietly_loaded()
    planned = runs_of(plan)
    left = [one for one in planned if one.name not in record.values["runs"]]
    if not left:
        return record.values
    material = material_of(plan, progress)
    for one in left:
        found = {**result_of(one, plan, material, progress), "made_with": made_with("architectures.py")}
        runs = {**record.values["runs"], one.name: found}
        done = [runs[other.name] for other in planned if other.name in runs]
        summary = summary_of(done, material.questions)
        record.save(runs=runs, summary=summary, made_with=found["made_with"])
        say(_line(one.name, found))
    return record.values


def _line(name: str, found: Values) -> str:
    """One line for the terminal."""
    recall = {state: groups["held_out_wording"]["value"] for state, groups in found["recall"].items()}
    shown = [f"{state.replace('_', ' ')} {value:.3f}" for state, value in recall.items()]
    shown += [f"{part['share_used']:.2f} of slots used" for part in found["usage"]]
    shown += [f"loss {found['loss']:.3f}", f"{found['tokens_per_second']} tokens/s"]
    return f"{name}: {', '.join(shown)}; {found['seconds']:.0f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe; returns the exit code."""
    default = Plan()
    names = [size.name for size in default.sizes]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="the JSON file of results; new, or that of a killed run")
    parser.add_argument("--plot", type=Path, help="folder for the figures")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(default.seeds))
    parser.add_argument("--sizes", nargs="+", choices=names, default=names)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--exposures", type=int, default=default.exposures, help="how often a fact is read")
    parser.add_argument(
        "--splits", nargs="+", default=list(default.splits), help="parts of the corpus to learn"
    )
    parser.add_argument("--no-curve", action="store_true", help="do not vary the number of slots")
    parser.add_argument("--set", nargs="+", default=[], metavar="KIND.FIELD=VALUE", help="change a setting")
    parser.add_argument("--smoke", action="store_true", help="a few hundred facts, models of no use")
    parser.add_argument("--table", type=Path, metavar="JSON", help="show these results and end")
    options = parser.parse_args(arguments)
    if options.table:
        _show(json.loads(options.table.read_text(encoding="utf-8")), options.plot)
        return 0
    if options.out is None:
        parser.error("--out is needed, or --table")
    plan = _plan(options, default)
    record = Record(options.out, identity_of(plan), {"runs": {}, "summary": None})
    with rich_progress() as progress:
        values = run(plan, record, progress=progress)
    _show(values, options.plot)
    return 0


def _show(values: Values, plot: Path | None) -> None:
    """Print the table, and draw the figures where a folder is given."""
    print(markdown(values["summary"]))
    if plot:
        from architectures_figures import draw

        draw(values, plot)


def _plan(options: argparse.Namespace, default: Plan) -> Plan:
    plan = replace(
        default,
        seeds=tuple(options.seeds),
        sizes=tuple(size for size in default.sizes if size.name in options.sizes),
        kinds=tuple(kind for kind in KINDS if kind in options.kinds),
        exposures=options.exposures,
        splits=tuple(options.splits),
    )
    plan = changed(smoke_plan(plan) if options.smoke else plan, options.set)
    return replace(plan, curve_keys=()) if options.no_curve else plan


if __name__ == "__main__":
    sys.exit(main())
