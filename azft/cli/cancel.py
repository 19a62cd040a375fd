"""`azft cancel`: end a run so that it can be resumed."""

from __future__ import annotations

from typing import Any

import click

from azft.cli import options
from azft.cli.render import Output, note

EPILOG = """\b
Example:
  $ azft cancel linden-bakery-3f2a91c0
  linden-bakery-3f2a91c0 is asked to stop.
  Go on later with: azft resume linden-bakery-3f2a91c0
"""


@click.command(epilog=EPILOG)
@options.azure
@options.run
@options.output
def command(run: Any, access: Any, output: Output) -> None:
    """Ask a run to stop. `azft resume` goes on later, from a checkpoint.

    On this machine it saves one first; in Azure the last that it saved (training.save_steps) stays. Azure's own
    training (maas, and the pipelines system and finetuning) leaves none to go on from.

    RUN is a run's name, or the start of it. Returns at once; `azft status` says when it has stopped.
    """
    from azft import api

    if run.remote:
        api.refresh(run, access=access)
    was_active = run.state.active
    state = str(api.cancel(run, access=access).state)
    output.show({"name": run.name, "state": state, "asked": was_active}, lambda: _view(run.name, state, was_active))
    if was_active and output.is_table:
        note(f"Go on later with: azft resume {run.name}" if run.resumable else f"Another run: {run.another}")


def _view(name: str, state: str, was_active: bool) -> Any:
    from azft.cli import views

    return views.text(f"{name} is asked to stop." if was_active else f"{name} is not running ({state}).")
