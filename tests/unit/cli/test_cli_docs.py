"""docs/cli.md and the help texts: every command and option is there, with an example."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from memedit.cli import cli

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


def commands():
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", each) for inner, each in command.commands.items())
        else:
            yield name, command


COMMANDS = dict(commands())


def sections():
    parts = re.split(r"^## memedit (.+)$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_documented_commands_are_the_commands():
    assert list(sections()) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_documented_options_are_the_options(name):
    section = sections()[name]
    options = {
        option
        for parameter in COMMANDS[name].params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    }
    documented = set(re.findall(r"^\| `(--[a-z-]+)", section, flags=re.MULTILINE))
    assert documented == options
    arguments = [each for each in COMMANDS[name].params if isinstance(each, click.Argument)]
    for argument in arguments:
        assert (argument.name or "").upper() in section.split("```")[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name):
    assert f"memedit {name}" in (COMMANDS[name].epilog or "")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "doctor"])
def test_options_have_help(name):
    options = [each for each in COMMANDS[name].params if isinstance(each, click.Option)]
    assert [option.name for option in options if not option.help] == []
