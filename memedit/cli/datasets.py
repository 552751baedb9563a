"""Reading a dataset from the command line: the options for it, and what is said of records left out.

What: `dataset_options`, `noted_records`.
Why: every command that takes a file of facts or questions takes the same formats in the same words.
How: a thin layer over `memedit.facts.formats`; notes go to stderr.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from memedit.facts.formats import Records

__all__ = ["dataset_options", "noted_records"]

MAX_BAD_SHOWN = 20
_Function = TypeVar("_Function", bound=Callable[..., Any])


def dataset_options(function: _Function) -> _Function:
    """Add --format (format_name), --target-convention and --skip-bad to a command."""
    options = (
        click.option(
            "--format",
            "format_name",
            metavar="NAME",
            help="The format of the file, such as counterfact, zsre or knowedit (docs/facts.md lists them); "
            "default: recognised from its fields.",
        ),
        click.option(
            "--target-convention",
            type=click.Choice(["answers", "alt"]),
            help="Which answer of zsRE is taught: the true one (answers) or the other (alt); no default.",
        ),
        click.option(
            "--skip-bad",
            is_flag=True,
            help="Leave out records that cannot be used, and say which; else they are an error.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def noted_records(
    source: str, format_name: str | None, *, target_convention: str | None, skip_bad: bool
) -> Records:
    """Read a dataset and say what of it is not used.

    Args:
        source: A file, or "hf:owner/name/config:split".
        format_name: As --format has it.
        target_convention: As --target-convention has it.
        skip_bad: As --skip-bad has it.

    Raises:
        MemeditError: As `read_records`.
    """
    from memedit.facts.formats import read_records

    records = read_records(source, format_name, skip_bad=skip_bad, target_convention=target_convention)
    if records.merged:
        _note(f"note: {len(records.merged)} line(s) of {source} repeat another; each fact is taught once")
    if records.left_out:
        _note(f"note: {len(records.left_out)} probe(s) of {source} ask what it teaches; they are left out")
    if records.bad:
        _note(f"note: {len(records.bad):,} of {records.num_records:,} records are bad and are left out:")
    for bad in records.bad[:MAX_BAD_SHOWN]:
        _note(f"  {bad}")
    if len(records.bad) > MAX_BAD_SHOWN:
        _note(f"  and {len(records.bad) - MAX_BAD_SHOWN:,} more")
    return records


def _note(text: str) -> None:
    click.echo(text, err=True)
