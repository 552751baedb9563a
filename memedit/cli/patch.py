"""`memedit patch export` and `patch import`: carry one edit from one store to another.

What: thin commands over `memedit.store`.
Why: what was taught once need not be trained again by everybody who has the same base model.
How: the file is sealed and holds numbers and text only; no model is loaded.
"""

from __future__ import annotations

from pathlib import Path

import click

from memedit.cli.options import json_option, print_json, store_option

__all__ = ["patch"]

_EXPORT_EPILOG = """EDIT is a name from `memedit log`, the beginning of one, or its number.

\b
Examples:
  memedit patch export 1 capitals.safetensors
  memedit patch export e0001-3f9a2c ./shared --store my-store
"""
_IMPORT_EPILOG = """\b
Examples:
  memedit patch import capitals.safetensors
  memedit patch import capitals.safetensors --store new-store --json
"""


@click.group(epilog="\b\nExample:\n  memedit patch export 1 capitals.safetensors")
def patch() -> None:
    """Carry single edits between stores of the same base model, as sealed files (docs/export.md)."""


@patch.command("export", epilog=_EXPORT_EPILOG)
@click.argument("edit")
@click.argument("out", type=click.Path(path_type=Path))
@store_option
@json_option("out, edit, num_facts, left_out, fingerprint, num_bytes")
def export_patch(*, edit: str, out: Path, store: Path, as_json: bool) -> None:
    """Write one active edit, with its facts and its report, to the file OUT.

    OUT ends in .safetensors, or is a folder, in which the file gets the edit's name. Facts that later edits
    took out are left out. An edit that was trained on top of another is refused: merge them first.
    """
    from memedit.store import Store, export_edit

    with Store.open(store, fingerprint=None, read_only=True) as opened:
        carried = export_edit(opened, edit, out)
    if as_json:
        print_json(
            {
                "out": str(carried.path),
                "edit": carried.edit.id,
                "num_facts": carried.num_facts,
                "left_out": carried.left_out,
                "fingerprint": carried.fingerprint,
                "num_bytes": carried.num_bytes,
            }
        )
        return
    if carried.left_out:
        click.echo(f"note: {carried.left_out} fact(s) that later edits took out are not in it", err=True)
    size = f"{carried.num_facts} facts, {carried.num_bytes:,} bytes"
    click.echo(f"exported: edit {carried.edit.id} ({size}) is in {carried.path}")
    click.echo(f"  memedit patch import {carried.path} --store STORE  takes it in, on the same base model")


@patch.command("import", epilog=_IMPORT_EPILOG)
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@store_option
@json_option("the keys of `log`'s edits")
def import_patch(*, path: Path, store: Path, as_json: bool) -> None:
    """Take in the edit that PATH holds: a file from `patch export`, or a folder with one.

    It is one edit like any other: it gets the next number, and `memedit undo` takes it back. It is refused
    where it was made for another base model, is there already, or meets what is there.
    """
    from memedit.cli.journal import edit_json
    from memedit.store import import_edit

    record = import_edit(path, store)
    if as_json:
        print_json(edit_json(record))
        return
    from memedit.reports.inject import next_command

    came_from = record.report["imported"]["edit"]
    click.echo(
        f"imported: edit {record.id} ({record.num_facts} facts, {came_from} where it was made) into {store}"
    )
    for words in (("show", record.id), ("undo", record.id)):
        click.echo(f"  {next_command(store, *words)}")
