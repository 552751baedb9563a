"""Options that several commands share, and how a command ends otherwise than by an error.

What: `store_option`, `model_option`, the gate's options (`gate_option`, `max_forgetting_option`,
`max_perplexity_ratio_option`), `json_option`, `print_json`, `stop`, and the checks `was_given` and
`require_folder_of`.
Why: one name, one help text and one default for one thing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

from memedit.errors import UsageError

__all__ = [
    "finite",
    "gate_option",
    "json_option",
    "max_forgetting_option",
    "max_perplexity_ratio_option",
    "model_option",
    "print_json",
    "require_folder_of",
    "stop",
    "store_option",
    "was_given",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def stop(message: str, exit_code: int) -> NoReturn:
    """End the command otherwise than by an error.

    Args:
        message: What the user is told, on stderr.
        exit_code: What the process exits with.
    """
    click.echo(message, err=True)
    raise click.exceptions.Exit(exit_code)


def store_option(function: _Function) -> _Function:
    """Add --store to a command."""
    return click.option(
        "--store",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(".memedit"),
        show_default=True,
        help="The folder that holds the edits.",
    )(function)


def gate_option(*, default: str, may_be_off: bool) -> Callable[[_Function], _Function]:
    """Add --gate to a command.

    Args:
        default: What decides where the user does not say.
        may_be_off: Whether the command may be told to let nothing decide.
    """
    modes, shares = ["quick", "full"], "a part of it (quick) or all of it (full)"
    if may_be_off:
        modes, shares = [*modes, "off"], f"{shares}; with off nothing does, and it is measured all the same"
    return click.option(
        "--gate",
        type=click.Choice(modes),
        default=default,
        show_default=True,
        help=f"How much of what must stay decides: {shares}.",
    )


def max_forgetting_option(retained: str) -> Callable[[_Function], _Function]:
    """Add --max-forgetting to a command whose edit the gate judges.

    Args:
        retained: The facts that the limit is for, for the help text.
    """
    return click.option(
        "--max-forgetting",
        type=click.FloatRange(0, 1),
        callback=finite,
        default=0.02,
        show_default=True,
        help=f"Share of {retained} that may be lost; a loss beyond it, and beyond chance, is refused.",
    )


def max_perplexity_ratio_option(function: _Function) -> _Function:
    """Add --max-perplexity-ratio to a command whose edit the gate judges."""
    return click.option(
        "--max-perplexity-ratio",
        type=click.FloatRange(min=1),
        callback=finite,
        default=1.02,
        show_default=True,
        help="How much perplexity on general text may grow, as a factor.",
    )(function)


def model_option(function: _Function) -> _Function:
    """Add --model to a command."""
    return click.option(
        "--model",
        metavar="NAME",
        help="A named model (`memedit models list`), a local folder, or a hub id. "
        "Default: the model of the store, else smollm2-135m.",
    )(function)


def json_option(keys: str) -> Callable[[_Function], _Function]:
    """Add --json to a command.

    Args:
        keys: The keys of the object, for the help text.
    """
    return click.option("--json", "as_json", is_flag=True, help=f"Print one JSON object: {keys}.")


def print_json(value: object) -> None:
    """Print one JSON object to stdout, in ASCII, so that any terminal and any pipe can hold it."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def finite(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse a limit that is not a number, which every comparison would let pass."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.", context, parameter)
    return value


def was_given(parameter: str) -> bool:
    """Say whether the user gave a parameter of the running command, rather than its default."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source not in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def require_folder_of(path: Path | None, option: str) -> None:
    """Refuse a file that cannot be written, before minutes are spent on what goes into it.

    Args:
        path: The file; None = none was asked for.
        option: The option that names it.
    Raises:
        UsageError: its folder is not there.
    """
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}", remedy="Make it first.")
