"""`memedit export`: the edited model as a folder for transformers, or the edits alone.

What: opens model and store, writes the folder, says what is in it.
Why: whoever has transformers must be able to use an edited model, and whoever has the base model its edits.
How: a thin layer over `Editor.export`; the folder appears whole or not at all.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memedit.cli.asking import editor_for_asking, require_store
from memedit.cli.options import json_option, model_option, print_json, store_option

if TYPE_CHECKING:
    from memedit.editor import Exported

__all__ = ["export"]

_EPILOG = """\b
Examples:
  memedit export ./my-edited-model
  memedit export ./my-edits --delta
  memedit export ./my-edited-model --store my-store --json
"""


@click.command(epilog=_EPILOG)
@click.argument("out", type=click.Path(path_type=Path))
@store_option
@model_option
@click.option(
    "--delta",
    is_flag=True,
    help="Write the edits alone, to be put onto the base model by memedit.load_delta.",
)
@json_option("out, kind, base_model, fingerprint, edits, num_facts, files, size_bytes, seconds")
def export(*, out: Path, store: Path, model: str | None, delta: bool, as_json: bool) -> None:
    """Write the model with the store's active edits as a Hugging Face folder that needs no memedit.

    OUT is a new or empty folder. It gets weights, configuration, tokenizer, a model card, and the code that
    transformers runs with trust_remote_code=True: plain PyTorch, written to be read. The store and the base
    model are not changed.
    """
    from memedit.modeling.new_folder import require_new_folder

    require_new_folder(out)
    require_store(store, otherwise="exporting the model without edits")
    from memedit.reports.progress import rich_progress

    started = time.monotonic()
    with rich_progress() as progress, editor_for_asking(store, model, progress) as editor:
        written = editor.export(out, delta=delta, progress=progress)
    seconds = round(time.monotonic() - started, 1)
    if as_json:
        print_json({**written.to_json(), "seconds": seconds})
        return
    _print_written(written, seconds)


def _print_written(written: Exported, seconds: float) -> None:
    size, edits = sum(written.files.values()) / 1e6, len(written.edits)
    what = "edited model" if written.kind == "model" else "edits alone"
    held = f"{written.num_facts} fact(s) of {edits} active edit(s) on {written.base}"
    click.echo(f"{what}: {held} are in {written.out} ({size:,.1f} MB, {seconds:.1f} s)")
    if written.kind == "model":
        click.echo(f"  AutoModelForCausalLM.from_pretrained({str(written.out)!r}, trust_remote_code=True)")
    else:
        click.echo(f"  memedit.load_delta({str(written.out)!r})")
    click.echo(f"  {written.out / 'README.md'} says what it holds, what was measured, and its limits")
