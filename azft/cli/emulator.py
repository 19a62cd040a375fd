"""`azft emulator`: Azure on loopback, until Ctrl-C."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from azft.cli import options
from azft.cli.render import Output, note

if TYPE_CHECKING:
    from threading import Event

    from rich.console import RenderableType

    from azft.emulator import Emulator

EPILOG = """\b
Example:
  $ azft emulator --for recipe.yaml > emulator.env &
  $ . ./emulator.env
  $ azft submit recipe.yaml --mode maap

\b
It is not Azure: docs/emulator.md says what it covers and what not. For a
whole run on one that is started and ended for it: azft submit --rehearse.
"""


@click.command(epilog=EPILOG)
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the state in this folder, so that the next start goes on from it. Without it, all is forgotten.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Listen on this port; by default last time's, or a free one.",
)
@click.option(
    "--for",
    "wanted",
    metavar="RECIPE|PLAN.JSON",
    multiple=True,
    help="Have ready what this recipe or plan would find in Azure: stand-ins of its model and of the registry's "
    "pipeline, and its cluster. Repeatable.",
)
@options.output
def command(root: Path | None, port: int | None, wanted: tuple[str, ...], output: Output) -> None:
    """Run Azure on this machine, for rehearsals and tests, until Ctrl-C.

    Prints the environment variables that lead Azure's clients to it, as lines for a shell. Nothing leaves this machine
    and nothing costs money.
    """
    import sys

    from azft.emulator import Emulator, EmulatorBusyError, Settings
    from azft.errors import UsageError
    from azft.execution.ranks import own_module
    from azft.extras import needs

    # The emulator knows nothing of azft: it is told what command lines train and answer for it.
    settings = Settings(
        trainer_command=own_module("azft.rehearsal.trainer"), server_command=own_module("azft.rehearsal.server")
    )
    try:
        with needs("emulator", "The emulator"):
            emulator = Emulator(root, settings=settings, port=port)
            emulator.start()
    except EmulatorBusyError as error:
        raise UsageError(str(error), fix="Take another one, or end what uses it.") from None
    except OSError as error:
        where = root or "its temporary folder"
        message = f"The emulator can't keep its state in {where}: {error.strerror}."
        raise UsageError(message, fix="Name another folder: --root DIR") from None
    try:
        made = _make_ready(emulator, wanted)
        variables = emulator.environment()
        ended = _on_signals()
        output.show({"url": emulator.url, "environment": variables}, lambda: _view(variables))
        sys.stdout.flush()  # whoever reads the variables from a file or a pipe waits for them
        for line in made:
            note(f"Ready: {line}.")
        note(f"Listening on {emulator.url}. End it with Ctrl-C.")
        while not ended.wait(0.5):
            pass
    finally:
        emulator.stop()
    note("Ended.")


def _make_ready(emulator: Emulator, wanted: tuple[str, ...]) -> list[str]:
    if not wanted:
        return []
    from azft.rehearsal.seeds import seed_for

    return [line for what in wanted for line in seed_for(emulator, what)]


def _view(variables: dict[str, str]) -> RenderableType:
    from rich.console import Group

    from azft.cli import views

    return Group(*(views.line(f"export {name}={shlex.quote(value)}") for name, value in variables.items()))


def _on_signals() -> Event:
    """An event that is set by Ctrl-C and by the polite signals. Before it is awaited, so that none comes too early."""
    import signal
    from threading import Event

    ended = Event()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: ended.set())
    return ended
