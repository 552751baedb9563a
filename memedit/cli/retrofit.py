"""`memedit retrofit`: give a plain Llama memory layers and save it as a Hugging Face folder.

What: calibrates the routing on the model's own activations, and writes model, tokenizer and retrofit.
Why: `inject` does the same on first use and keeps it in the cache; this is for who wants the folder, to load
it with transformers, share it, or calibrate it on text of their own.
How: a thin layer over `memedit.modeling.opening`; torch is imported with it, not before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memedit.cli.options import json_option, print_json
from memedit.modeling.new_folder import require_new_folder

if TYPE_CHECKING:
    from memedit.modeling.calibration import RoutingTrial

__all__ = ["retrofit"]

_EPILOG = """\b
Examples:
  memedit retrofit ./my-llama ./my-memory-llama --background articles.jsonl
  memedit retrofit smollm2-135m ./smollm2-memory
  memedit retrofit ./my-llama ./my-large-memory --slots 1048576
  memedit inject facts.jsonl --model ./my-memory-llama
"""


def _square(_: click.Context, __: click.Parameter, slots: int | None) -> int | None:
    """Refuse a number of slots that is no square: slots are pairs of n sub-keys and n others."""
    if slots is None or math.isqrt(slots) ** 2 == slots:
        return slots
    nearest = round(math.sqrt(slots)) ** 2
    raise click.BadParameter(f"{slots} is not a square number; the nearest is {nearest}.")


@click.command(epilog=_EPILOG)
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--background",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Text that stands for what must not change; default: shipped for named models, else written by the "
    "model itself.",
)
@click.option(
    "--layer",
    type=click.IntRange(min=0),
    help="Block that carries the memory layer, counted from 0; default: found by a short trial on "
    "made-up names, together with the temperature.",
)
@click.option(
    "--slots",
    type=click.IntRange(min=1024),
    callback=_square,
    help="Slots of the value table, a square number such as 1048576 = 1024 x 1024; a subject takes some 100. "
    "Default: 262144, enough for one or two thousand subjects.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the calibration."
)
@json_option("model, out, layer, temperature, trials, num_slots, background_documents, size_bytes, seconds")
def retrofit(
    *,
    model: str,
    out: Path,
    background: Path | None,
    layer: int | None,
    slots: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Give the plain Llama MODEL memory layers without retraining it, and save it in the folder OUT.

    MODEL is a named model, a local folder or a hub id. The new model's outputs are the old one's, to the bit,
    until something is injected. OUT holds model, tokenizer and retrofit.safetensors (the routing alone).
    """
    require_new_folder(out)
    from memedit.reports.progress import rich_progress

    started = time.monotonic()
    with rich_progress() as progress:
        with progress.task("Loading memedit", None):
            from memedit.editing.routing_trials import choose_routing
            from memedit.modeling.calibration import RoutingSettings
            from memedit.modeling.opening import RETROFIT_FILE, retrofit_folder
            from memedit.modeling.retrofit import load_retrofit
        settings = RoutingSettings(layer=layer, seed=seed)
        settings = settings if slots is None else replace(settings, num_keys=math.isqrt(slots))
        retrofit_folder(
            model,
            out,
            background=background,
            # A retrofit that is shipped or cached fits the default settings.
            settings=None if settings == RoutingSettings() else settings,
            choose=choose_routing,
            progress=progress,
        )
        fitted = load_retrofit(out / RETROFIT_FILE)
    described = {
        "model": model,
        "out": str(out),
        "layer": fitted.settings.layer,
        "temperature": fitted.settings.temperature,
        "trials": [asdict(trial) for trial in fitted.trials],
        "num_slots": fitted.settings.num_keys**2,
        "background_documents": fitted.background.num_documents,
        "size_bytes": sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
        "seconds": round(time.monotonic() - started, 1),
    }
    if as_json:
        print_json(described)
    else:
        _show(described, fitted.trials)


def _show(described: dict[str, Any], trials: Sequence[RoutingTrial]) -> None:
    """Say what was made, what was tried for it, and what to do with it."""
    click.echo(
        "{model} with a memory layer of {num_slots:,} slots at block {layer} is in {out} "
        "({megabytes:,.0f} MB, {seconds:.1f} s)".format(**described, megabytes=described["size_bytes"] / 1e6)
    )
    for trial in trials:
        click.echo(_told(trial))
    click.echo(f"  memedit inject facts.jsonl --model {described['out']}")


def _told(trial: RoutingTrial) -> str:
    """One line on what a layer and temperature gave."""
    return (
        f"  block {trial.layer:>2}, temperature {trial.temperature:>4g}: gates opened in "
        f"{trial.opened:.0%} of {trial.num_contexts} unseen contexts, at {trial.leaked:.0%} of "
        f"{trial.num_look_alikes} look-alikes{' (chosen)' if trial.chosen else ''}"
    )
