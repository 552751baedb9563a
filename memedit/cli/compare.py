"""`memedit compare`: the same facts taught by memedit and by what people would use instead, side by side.

What: checks the request, starts every part of it as a process of its own, shows and keeps the result.
Why: peak memory can only be measured in a fresh process, and hours of work must survive a crash or Ctrl-C.
How: a thin layer over memedit.baselines; the parts run in memedit.cli.compare_job.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memedit.cli.datasets import dataset_options, noted_records
from memedit.cli.options import json_option, print_json, require_folder_of, stop, was_given

if TYPE_CHECKING:
    from memedit.baselines.comparing import Request
    from memedit.facts import Fact

__all__ = ["compare"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)
_EPILOG = """\b
Examples:
  memedit compare facts.jsonl
  memedit compare facts.jsonl --methods memory,lora,locft --seeds 3 --plot pareto.png
  memedit compare facts.jsonl --tune --dev others.jsonl --save-settings tuned.json
  memedit compare facts.jsonl --settings tuned.json --json > comparison.json
\b
Stopped by Ctrl-C or a crash, the same command goes on where it was. Exit codes: 0 done; 1 a part failed;
2 wrong usage, input or environment; 130 interrupted. docs/compare.md says how everything is measured.
"""


@click.command(epilog=_EPILOG)
@click.argument("facts", type=click.Path())
@click.option(
    "--methods",
    default="memory,full,lora,locft,rag",
    show_default=True,
    metavar="NAMES",
    help="Methods, separated by commas; all: these, and sparse memory with other choices of slots.",
)
@click.option(
    "--model",
    default="smollm2-135m",
    show_default=True,
    metavar="NAME",
    help="A named model (`memedit models list`), a local folder, or a hub id.",
)
@dataset_options
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each method."
)
@click.option("--tune", is_flag=True, help="Search for each method's settings first, on other facts.")
@click.option(
    "--dev",
    type=_FILE,
    help="Facts to tune on; default: a fifth of the subjects of FACTS, which are then not reported.",
)
@click.option(
    "--tune-runs",
    type=click.IntRange(min=1),
    default=12,
    show_default=True,
    help="Trainings of a method's search, at most.",
)
@click.option("--settings", type=_FILE, help="Settings by method, as --save-settings wrote them.")
@click.option("--save-settings", type=_NEW_FILE, help="Write the settings that were used.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("memedit-comparison"),
    show_default=True,
    help="The folder that keeps every part that is done.",
)
@click.option("--fresh", is_flag=True, help="Do everything again, whatever the folder holds.")
@click.option("--limit", type=click.IntRange(min=1), help="Use this many facts of FACTS, and of --dev.")
@click.option(
    "--look-facts",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Facts that are asked about while a method trains, at most.",
)
@click.option("--text", type=_FILE, help="General text for the perplexity; default: prose that is shipped.")
@click.option(
    "--background",
    type=_FILE,
    help="Text that stands for what must not change, for calibrating a plain Llama on first use.",
)
@click.option("--plot", type=_NEW_FILE, help="Draw learning against forgetting, as .png, .svg or .pdf.")
@json_option("before, methods, equal_learning, tuning, facts, failed and more (docs/compare.md)")
def compare(*, as_json: bool, plot: Path | None, save_settings: Path | None, **options: Any) -> None:
    """Teach the same facts by several methods, and measure each in the same way.

    FACTS is a file of facts, as for `memedit inject`. Each method and seed runs in a process of its own; what
    is done is kept in --out. Nothing is written to a store.
    """
    from memedit.baselines.methods import METHODS, chosen_methods, require_installed

    names = chosen_methods(options["methods"])
    for name in names:
        require_installed(METHODS[name].requires, f"method {name}")
    _check_outputs(plot, save_settings)
    found = _compared(_request(names, options), options["out"])
    if save_settings is not None:
        from memedit.baselines.comparing import write_settings

        write_settings(save_settings, found["methods"].items())
    if plot is not None:
        from memedit.reports.comparison_plot import draw_comparison

        draw_comparison(found, plot)
    if as_json:
        print_json(found)
    else:
        from memedit.reports.comparison import print_comparison
        from memedit.reports.console import report_console

        print_comparison(report_console(), found)
    if found["failed"]:
        stop(f"failed: {', '.join(found['failed'])} (the same command tries again)", 1)


def _check_outputs(plot: Path | None, save_settings: Path | None) -> None:
    """Say before hours of work what could not be written after them."""
    from memedit.baselines.methods import require_installed
    from memedit.errors import UsageError

    require_folder_of(plot, "--plot")
    require_folder_of(save_settings, "--save-settings")
    if plot is not None:
        require_installed(("matplotlib",), "--plot")
        if plot.suffix not in (".png", ".svg", ".pdf"):
            raise UsageError(f"--plot: got {plot.name}, expected a name that ends in .png, .svg or .pdf")


def _request(names: list[str], options: dict[str, Any]) -> Request:
    reading = {name: options[name] for name in ("format_name", "target_convention", "skip_bad")}
    facts = _facts(options["facts"], options["limit"], reading)
    development: tuple[Fact, ...] = ()
    if was_given("dev") and not options["tune"]:
        raise click.UsageError("--dev is for --tune.")
    if options["tune"]:
        from memedit.baselines.splitting import split

        given = _facts(str(options["dev"]), options["limit"], reading) if options["dev"] else None
        facts, development = split(facts, given)
    from memedit.reports.progress import rich_progress

    with rich_progress() as progress, progress.task("Loading memedit", None):
        from memedit.baselines.comparing import Request, read_settings
        from memedit.baselines.folder import Plan
        from memedit.evaluation import general_text

    background = options["background"]
    plan = Plan(
        model=options["model"],
        background=None if background is None else str(background.resolve()),
        text=general_text(options["text"]),
        reported=tuple(facts),
        development=tuple(development),
        look_facts=options["look_facts"],
        tune_runs=options["tune_runs"],
    )
    settings = read_settings(options["settings"]) if options["settings"] else {}
    return Request(plan, names, options["seeds"], options["tune"], settings, options["fresh"])


def _facts(source: str, limit: int | None, reading: dict[str, Any]) -> tuple[Fact, ...]:
    records = noted_records(source, **reading)
    records.require_facts()
    return tuple(records.facts[:limit])


def _compared(request: Request, out: Path) -> dict[str, Any]:
    """The comparison; Ctrl-C becomes one line that says what is kept."""
    from memedit.baselines.comparing import compare as compare_methods
    from memedit.baselines.folder import Folder

    folder = Folder(out)
    try:
        found = compare_methods(
            request, folder, lambda words: _started(out, words), said=lambda line: click.echo(line, err=True)
        )
    except KeyboardInterrupt:
        done = len(list((out / "runs").glob("*.json")))
        stop(f"interrupted: {done} run(s) are kept in {out}; the same command goes on from there", 130)
    (out / "comparison.json").write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", "ascii")
    return found


def _started(out: Path, words: list[str]) -> bool:
    """Do a part in a process of its own; its progress and errors go to this one's stderr."""
    command = [sys.executable, "-m", "memedit.cli.compare_job", str(out), *words]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    return done.returncode == 0
