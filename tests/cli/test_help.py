"""The help texts beside one another: the same option in the same words, and in the same place."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from azft.cli.group import COMMANDS
from azft.cli.main import cli

OWN_MEANING = {"--force", "--name", "--task", "--out", "--follow", "--mode", "--dry-run"}
"""Flags that say of each command what they do there."""
AZURE = ["--workspace", "--resource-group", "--subscription", "--auth"]
OUTPUT = ["--output", "--query"]


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {child}", subcommand) for child, subcommand in command.commands.items())
        else:
            yield name, command


def flags(command: click.Command) -> list[str]:
    """The long name of each option, in the order of the help."""
    return [max(option.opts, key=len) for option in command.params if isinstance(option, click.Option)]


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_a_commands_own_options_come_first_then_azures_then_the_outputs(name: str, command: click.Command) -> None:
    listed = flags(command)
    shared = (AZURE if "--auth" in listed else []) + OUTPUT
    assert listed[-len(shared) :] == shared
    assert not set(listed[: -len(shared)]) & {*AZURE, *OUTPUT}


def test_an_option_says_the_same_at_every_command() -> None:
    said: dict[str, set[str | None]] = {}
    for _, command in commands():
        for option in command.params:
            if isinstance(option, click.Option):
                said.setdefault(max(option.opts, key=len), set()).add(option.help)
    assert {flag: words for flag, words in said.items() if len(words) > 1 and flag not in OWN_MEANING} == {}
    assert all(words and None not in words for words in said.values())


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_the_help_names_its_values_and_what_a_run_is(name: str, command: click.Command) -> None:
    root = click.Context(cli, info_name="azft", **cli.context_settings)  # a command keeps the help option of its first
    with click.Context(command, info_name=name, parent=root, terminal_width=80) as context:
        text = command.get_help(context)
    assert "RANGE" not in text
    assert "DIRECTORY" not in text
    if "RUN" in text.split("\n", 1)[0]:
        assert "RUN is a run's name" in " ".join(text.split())
