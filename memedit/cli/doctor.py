"""`memedit doctor`: look at the installation and say what is wrong and how to mend it.

What: a list of checks (versions, kernel backend, cache and disk, named models, store), each with a level.
Why: most of a stranger's first failures are the environment's, and can be named before a long run.
How: each check is a function that returns `Check`s and changes nothing; torch is imported here, since its
version and devices are part of the answer. Exit code 0 when nothing is wrong, else 1.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import click

from memedit.cli.options import json_option, print_json
from memedit.errors import UsageError

__all__ = ["Check", "doctor", "examine"]

_NEEDED_BYTES = 600_000_000
_PYTHONS = ((3, 10), (3, 14))
_REQUIRED = {
    "torch": (2, 6),
    "transformers": (5, 0),
    "accelerate": (1, 0),
    "gguf": (0, 10),
    "safetensors": (0, 4),
    "numpy": (1, 26),
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: What was looked at.
        level: `ok`, `note` (worth knowing) or `wrong` (memedit will not work).
        found: What was found.
        remedy: How to mend it, or None.
    """

    name: str
    level: str
    found: str
    remedy: str | None = None


def examine(store: Path) -> list[Check]:
    """Look at everything.

    Args:
        store: The folder where a store is looked for.
    Returns:
        The checks, in the order in which they are shown.
    """
    return [*_versions(), *_kernels(), *_arithmetic(), *_cache(), *_models(), *_store(store)]


@click.command(epilog="\b\nExamples:\n  memedit doctor\n  memedit doctor --json")
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path(".memedit"),
    show_default=True,
    help="The store to check.",
)
@json_option("healthy, checks")
@click.pass_context
def doctor(ctx: click.Context, store: Path, as_json: bool) -> None:
    """Check the installation: versions, kernels, cache, disk, models, store.

    Says what is wrong and how to mend it; changes nothing. Exit code 0 when healthy, else 1.
    """
    checks = examine(store)
    healthy = all(check.level != "wrong" for check in checks)
    if as_json:
        print_json({"healthy": healthy, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            click.echo(f"{check.level:<5} {check.name:<18} {check.found}")
            if check.remedy:
                click.echo(f"      {'':<18} -> {check.remedy}")
        click.echo("healthy" if healthy else "not healthy: mend what is marked wrong, then run this again")
    ctx.exit(0 if healthy else 1)


def _versions() -> Iterator[Check]:
    from memedit import __version__

    yield Check("memedit", "ok", __version__)
    low, high = _PYTHONS
    fits = low <= sys.version_info[:2] < high
    remedy = None if fits else f"Use Python {low[0]}.{low[1]} to {high[0]}.{high[1] - 1}."
    yield Check(
        "python", "ok" if fits else "wrong", f"{platform.python_version()} ({sys.executable})", remedy
    )
    for package, least in _REQUIRED.items():
        yield _package(package, least)
    try:
        yield Check("triton", "ok", metadata.version("triton"))
    except metadata.PackageNotFoundError:
        yield Check("triton", "ok", "not installed (needed on GPUs only)")


def _package(package: str, least: tuple[int, int]) -> Check:
    wanted = f"{package}>={least[0]}.{least[1]}"
    try:
        version = metadata.version(package)
        importlib.import_module(package)
    except (metadata.PackageNotFoundError, ImportError, OSError) as error:
        return Check(package, "wrong", f"cannot be imported: {error}", f"pip install '{wanted}'")
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < least:
        return Check(package, "wrong", f"{version}, too old", f"pip install --upgrade '{wanted}'")
    return Check(package, "ok", version)


def _kernels() -> Iterator[Check]:
    try:
        import torch
        from memedit_kernels.backend import KernelsUnavailable, chosen, require
    except (ImportError, OSError):
        return
    gpu = torch.cuda.is_available()
    try:
        backend = require("cuda" if gpu else "cpu")
    except ValueError as error:
        yield Check("kernels", "wrong", str(error), "Set it to auto, reference or triton, or unset it.")
    except KernelsUnavailable as error:
        found, _, remedy = str(error).partition(": ")
        yield Check("kernels", "wrong", found, remedy)
    else:
        device = torch.cuda.get_device_name() if gpu else f"cpu, {torch.get_num_threads()} threads"
        yield Check("kernels", "ok", f"{backend} (MEMEDIT_KERNELS={chosen()}) on {device}")


def _arithmetic() -> Iterator[Check]:
    try:
        import torch

        from memedit.modeling.arithmetic import chosen, widens
    except (ImportError, OSError):
        return
    try:
        wide = widens(torch.bfloat16, "cuda" if torch.cuda.is_available() else "cpu")
    except UsageError as error:
        yield Check("arithmetic", "wrong", str(error), "Set it to auto, stored or float32, or unset it.")
    else:
        computed = "fp32" if wide else "bf16"
        yield Check("arithmetic", "ok", f"bf16 models compute in {computed} (MEMEDIT_DTYPE={chosen()})")


def _cache() -> Iterator[Check]:
    from memedit.modeling.named_models import cache_root

    root = cache_root()
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) if root.is_dir() else 0
    if not there.is_dir() or not os.access(there, os.W_OK):
        yield Check(
            "cache", "wrong", f"{root} cannot be written", "Point MEMEDIT_CACHE at a folder that can be."
        )
    else:
        yield Check("cache", "ok", f"{root} ({size / 1e6:,.0f} MB)")
    free = shutil.disk_usage(there).free
    if free < _NEEDED_BYTES:
        remedy = f"Free {_NEEDED_BYTES / 1e6:.0f} MB, or point MEMEDIT_CACHE at another disk."
        yield Check("disk", "wrong", f"{free / 1e6:,.0f} MB free at {there}", remedy)
    else:
        yield Check("disk", "ok", f"{free / 1e9:,.1f} GB free at {there}")


def _models() -> Iterator[Check]:
    from memedit.modeling.named_models import NAMED_MODELS, is_cached, model_folder

    for name in NAMED_MODELS:
        if is_cached(name):
            yield Check(f"model {name}", "ok", f"cached in {model_folder(name)}")
        elif model_folder(name).exists():
            found = f"damaged: files in {model_folder(name)} are missing or cut short"
            yield Check(f"model {name}", "wrong", found, f"memedit models pull {name} (makes it again)")
        else:
            yield Check(f"model {name}", "note", "not cached", f"memedit models pull {name} (or just use it)")


def _store(store: Path) -> Iterator[Check]:
    journal = store / "journal.sqlite"
    if not journal.is_file():
        yield Check("store", "ok", f"none in {store} (the first inject makes one)")
        return
    try:
        # as_uri needs an absolute path; read-only, so that looking changes nothing.
        connection = sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)
        try:
            verdict = str(connection.execute("PRAGMA quick_check").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict == "ok":
        yield Check("store", "ok", f"{store}, journal sound")
    else:
        remedy = "Restore the store folder from a backup, or start a new one with --store."
        yield Check("store", "wrong", f"{journal} is damaged: {verdict}", remedy)
