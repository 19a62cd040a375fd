"""`azft resume`: go on with a run that was cut off."""

from __future__ import annotations

from typing import Any

import click

from azft.cli import options
from azft.cli.render import Output
from azft.errors import UsageError

EPILOG = """\b
Example:
  $ azft resume linden-bakery-3f2a91c0
  prepare   reused
  finetune  running  4 s
  step 61/84  loss 1.398  9,120 tokens/s  3 s to go
"""


@click.command(epilog=EPILOG)
@options.azure
@options.run
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Watch to the end, or return once it has started."
)
@click.option("--follow", is_flag=True, help="While waiting, show what the steps print.")
@options.output
def command(run: Any, access: Any, wait: bool, follow: bool, output: Output) -> int:
    """Go on with a run that failed, was canceled or was cut off, from its last checkpoint.

    RUN is a run's name, or the start of it. In Azure a second job starts, which finds the first one's checkpoints;
    only azft's own pipeline leaves some. It ends with the weights that it would have had without the interruption.
    """
    from azft import api
    from azft.cli import results

    if follow and not wait:
        raise UsageError("--follow needs --wait.", fix="Leave out one of --follow and --no-wait.")
    return results.watch(
        lambda on_event: api.resume(run, wait=wait, on_event=on_event, access=access),
        output,
        follow=follow,
        wait=wait,
    )
