"""`azft status`: where a run stands, and what came of it."""

from __future__ import annotations

from typing import Any

import click

from azft.cli import options
from azft.cli.render import Output

EPILOG = """\b
Example:
  $ azft status --latest
  run       linden-bakery-3f2a91c0
  state     Completed
  training  step 84/84  loss 1.207  eval loss 1.398
  ...
  $ azft status --latest --query evaluation.tuned.loss
  1.402

\b
A run in Azure is looked up there, also one that another machine started.
"""


@click.command(epilog=EPILOG)
@options.azure
@options.run
@options.output
def command(run: Any, access: Any, output: Output) -> None:
    """Show where a run stands, and what came of it.

    RUN is a run's name, or the start of it. When Azure does not answer, the state is the one that was last known.
    """
    from azft import api
    from azft.cli import results

    results.refresh(run, access)
    summary = api.summarize(run)
    output.show(summary.to_dict(), lambda: results.view(summary))
