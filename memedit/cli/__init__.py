"""The `memedit` command: a group that imports a subcommand only when it is invoked.

What: `main` is the console script; `cli` is the click group that tests invoke.
Why: `memedit --help` must answer in half a second, and torch takes seconds to import.
How: names, modules and one-line helps stand in a table here; errors that memedit raises on purpose become one
clear message on stderr and their own exit code (0 done, 1 refused, 2 usage or environment, 130 interrupted).
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import click

from memedit import __version__
from memedit.cli.options import stop
from memedit.cli.process import prepare_process
from memedit.errors import MemeditError

__all__ = ["cli", "main"]


class _Entry(NamedTuple):
    module: str
    attribute: str
    help: str


_COMMANDS = {
    "inject": _Entry(
        "memedit.cli.inject", "inject", "Teach the model the facts of a file, measured and undoable."
    ),
    "ask": _Entry(
        "memedit.cli.ask", "ask", "Let the edited model complete a prompt, and say which facts it used."
    ),
    "evaluate": _Entry(
        "memedit.cli.evaluate",
        "evaluate",
        "Measure what the model learned, kept, lost and makes up; base against edited.",
    ),
    "compare": _Entry(
        "memedit.cli.compare",
        "compare",
        "Teach the same facts by memedit, LoRA, fine-tuning and more, and measure each.",
    ),
    "forget": _Entry(
        "memedit.cli.revising", "forget", "Take stored facts out of the model, measured and undoable."
    ),
    "compact": _Entry(
        "memedit.cli.revising", "compact", "Merge all edits into one: the same model, to the bit."
    ),
    "log": _Entry("memedit.cli.journal", "log", "List the edits in a store."),
    "show": _Entry(
        "memedit.cli.journal", "show", "Show one edit: facts, text before and after, metrics, patch."
    ),
    "show model": _Entry(
        "memedit.cli.show_model",
        "show_model",
        "Show the model: parameters, FLOPs, bytes, what its table is worth.",
    ),
    "undo": _Entry("memedit.cli.journal", "undo", "Take an edit back, exactly."),
    "redo": _Entry("memedit.cli.journal", "redo", "Put an undone edit back."),
    "export": _Entry(
        "memedit.cli.export", "export", "Write the edited model as a Hugging Face folder, or its edits alone."
    ),
    "patch": _Entry("memedit.cli.patch", "patch", "Carry an edit from one store to another."),
    "suite": _Entry("memedit.cli.suite", "suite", "Make a suite of what the model must keep knowing."),
    "test": _Entry(
        "memedit.cli.testing", "test", "Test whether the model still knows it: what was lost, exit code 1."
    ),
    "models": _Entry(
        "memedit.cli.models", "models", "List, pull and show the models that memedit knows by name."
    ),
    "pretrain": _Entry(
        "memedit.cli.pretrain", "pretrain", "Train a memory-layer Llama from nothing, by a settings file."
    ),
    "retrofit": _Entry("memedit.cli.retrofit", "retrofit", "Give a plain Llama memory layers and save it."),
    "convert": _Entry(
        "memedit.cli.convert", "convert", "Turn another program's checkpoint into a Hugging Face folder."
    ),
    "doctor": _Entry(
        "memedit.cli.doctor", "doctor", "Check the installation: what is wrong and how to mend it."
    ),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported by name on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        entry = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(entry.module), entry.attribute)
        command.short_help = entry.help
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else " `memedit --help` lists the commands."
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        # A name of two words goes before the command that is its first word.
        if (name := " ".join(args[:2])) in _COMMANDS and len(args) > 1:
            return name, self.get_command(ctx, name), args[2:]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MemeditError as error:
            stop(f"error: {error}", error.exit_code)
        except KeyboardInterrupt:
            stop("interrupted: nothing half-done was left behind", 130)


_EPILOG = """\b
Examples:
  memedit models pull smollm2-135m
  memedit inject facts.jsonl
  memedit ask "The capital of Zubrowka is"
  memedit undo e0001-3f9a2c
"""


@click.group(
    "memedit", cls=_LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="memedit")
def cli() -> None:
    """Teach a pretrained Llama new facts in minutes: measured, journaled and undoable.

    Every edit is one transaction in a store (a folder, .memedit by default). Exit codes: 0 done, 1 refused by
    the gate or not everything learned, 2 wrong usage or environment.
    """


def main() -> None:
    """Run the command line and exit with its code."""
    prepare_process()
    cli(prog_name="memedit")
