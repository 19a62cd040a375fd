"""The table of commands, and a click group that imports a command's file only when that command runs.

`azft --help` is printed from the table alone, so that it costs what click costs and nothing more.
"""

from __future__ import annotations

import difflib
import errno
from importlib import import_module
from typing import Any, NamedTuple

import click


class Entry(NamedTuple):
    """One command: the module that holds it as `command`, and its line in the list."""

    module: str
    help: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Before a run": {
        "init": Entry("azft.cli.init", "Write a commented recipe, its schema and example data."),
        "convert": Entry("azft.cli.convert", "Make a task's rows of another format's file."),
        "check": Entry("azft.cli.check", "Find every problem of the recipe and its data."),
        "preview": Entry("azft.cli.preview", "Show rows as the model will see them."),
        "plan": Entry("azft.cli.plan", "Show what a run would do, with every default filled in."),
        "export-azureml": Entry("azft.cli.export_azureml", "Write a job for Azure as Azure ML's own YAML."),
    },
    "Runs": {
        "submit": Entry("azft.cli.submit", "Run a recipe or a saved plan."),
        "runs": Entry("azft.cli.runs", "List the runs of this folder."),
        "status": Entry("azft.cli.status", "Show where a run stands."),
        "logs": Entry("azft.cli.logs", "Show what a run's steps wrote."),
        "outputs": Entry("azft.cli.outputs", "List what came out of a run; bring it here from Azure."),
        "cancel": Entry("azft.cli.cancel", "Stop a run; it can be resumed."),
        "resume": Entry("azft.cli.resume", "Go on from a run's last checkpoint."),
    },
    "The result": {
        "chat": Entry("azft.cli.chat", "Talk to the model that a run made."),
        "register": Entry("azft.cli.register", "Make the model a version in the Azure ML workspace."),
        "deploy": Entry("azft.cli.deploy", "Put the model behind an endpoint in Azure."),
        "down": Entry("azft.cli.down", "List and end what azft started in Azure."),
    },
    "Help": {
        "models": Entry("azft.cli.models", "List known models; bring one to this machine."),
        "schema": Entry("azft.cli.schema", "Print the recipe's JSON Schema, for editors."),
        "doctor": Entry("azft.cli.doctor", "Say what is installed here and what is missing."),
        "emulator": Entry("azft.cli.emulator", "Run Azure on this machine, for rehearsals and tests."),
    },
}
COMMANDS: dict[str, Entry] = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class ReaderGoneError(Exception):
    """Whoever read our standard output stopped reading; not an error of ours."""


class LazyGroup(click.Group):
    """A group whose commands are the rows of `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's file; None for a name that isn't in the table."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        from azft.cli.options import place_in_help

        command = import_module(entry.module).command
        assert isinstance(command, click.Command)
        command.params.sort(key=place_in_help)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with a did-you-mean for a name that isn't in the table."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(COMMANDS)}."
            raise click.UsageError(f"No such command '{name}'. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands by section, from the table alone."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """As click's, but a closed pipe is told apart from a failure (click would exit with 1)."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise ReaderGoneError from None
            raise
