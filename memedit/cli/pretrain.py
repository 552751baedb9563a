"""`memedit pretrain`: train a memory-layer Llama from nothing, by a settings file.

What: tokenizer, model and phases of a TOML file; writes a Hugging Face folder that every other command opens.
Why: retrofits start empty. A pretrained table holds facts, so that editing has something to damage.
How: a thin layer over `memedit.pretraining`. A killed run goes on with the same command, to the bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memedit.cli.options import json_option, print_json
from memedit.modeling.new_folder import require_new_folder

if TYPE_CHECKING:
    from memedit.pretraining.settings import PretrainingSettings
    from memedit.pretraining.training import Moment

__all__ = ["CHECKPOINT_EVERY", "pretrain", "print_or_tell", "run_pretraining"]

CHECKPOINT_EVERY = 500

_EPILOG = """\b
Examples:
  memedit pretrain my-model.toml ./my-model
  memedit models build tiny
  memedit show model --model ./my-model --ablate --facts facts.jsonl
"""


@click.command(epilog=_EPILOG)
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--seed", type=click.IntRange(min=0), help="Seed of weights, order and wordings; default: CONFIG's."
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=1),
    default=CHECKPOINT_EVERY,
    show_default=True,
    help="Steps between two checkpoints.",
)
@json_option("out, seconds, phases, parameters, size_bytes")
def pretrain(*, config: Path, out: Path, seed: int | None, checkpoint_every: int, as_json: bool) -> None:
    """Pretrain a memory-layer Llama as the TOML file CONFIG says, and save it in the folder OUT.

    CONFIG names the corpus, the tokenizer's size, the model's shape and the phases (docs/pretraining.md).
    While it runs, its state is in OUT.partial; the same command goes on where a killed one was.
    """
    require_new_folder(out)
    from dataclasses import replace

    from memedit.pretraining.settings import read_settings

    settings = read_settings(config)
    if seed is not None:
        settings = replace(settings, seed=seed)
    print_or_tell(run_pretraining(settings, out, checkpoint_every), as_json=as_json)


def run_pretraining(settings: PretrainingSettings, out: Path, checkpoint_every: int) -> dict[str, Any]:
    """Pretrain with a progress bar and a line for each checkpoint, on stderr.

    Args:
        settings: of memedit.pretraining.
        out: the folder to write.
        checkpoint_every: steps between two checkpoints.

    Returns:
        What `--json` prints.
    """
    from memedit.pretraining.build import pretrain as pretrain_folder
    from memedit.reports.progress import rich_progress

    def told(phase: str, moment: Moment) -> None:
        used = "".join(f", {one['share_used']:.0%} of slots used" for one in moment.usage)
        click.echo(
            f"{phase}: step {moment.step} of {moment.num_steps}, loss {moment.loss:.3f}{used}", err=True
        )

    with rich_progress() as progress:
        made = pretrain_folder(settings, out, checkpoint_every=checkpoint_every, told=told, progress=progress)
    return {
        "out": str(made.folder),
        "seconds": {name: round(seconds, 1) for name, seconds in made.seconds.items()},
        "phases": [phase.name for phase in settings.phases],
        "parameters": sum(parameter.numel() for parameter in made.model.parameters()),
        "size_bytes": sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file()),
    }


def print_or_tell(result: dict[str, Any], *, as_json: bool) -> None:
    """Print the result for scripts or for a person."""
    if as_json:
        print_json(result)
        return
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result["seconds"].items())
    click.echo(
        f"{result['out']}: {result['parameters']:,} parameters, {result['size_bytes'] / 1e6:.0f} MB ({took})"
    )
