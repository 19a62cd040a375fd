"""`azft runs`: the runs of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from azft.cli import options
from azft.cli.render import Output, note

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azft.run_summary import RunSummary

EPILOG = """\b
Example:
  $ azft runs
  run                     state      mode   started           before  after
  linden-bakery-3f2a91c0  Completed  local  2026-11-24 03:40   6.812  1.402

\b
  $ azft runs -o tsv --query "[?state=='Completed'].name"
"""


@click.command(epilog=EPILOG)
@options.output
def command(output: Output) -> None:
    """List the runs of this folder, newest first.

    They lie in .azft/runs (AZFT_HOME moves .azft). The last two columns are the held-out loss before and after.
    """
    from azft import api

    summaries = [api.summarize(run) for run in api.runs()]
    output.show([summary.to_dict() for summary in summaries], lambda: _view(summaries))
    if not summaries and output.is_table:
        note("There are no runs here yet. Start one with: azft submit recipe.yaml")


def _view(summaries: list[RunSummary]) -> RenderableType:
    from azft.cli import views

    columns = ("run", "state", "mode", "started", "before", "after")
    return views.table(columns, [_row(summary) for summary in summaries], right=("before", "after"))


def _row(summary: RunSummary) -> list[object]:
    evaluation = summary.evaluation or {}
    losses = [evaluation.get(model, {}).get("loss") for model in ("base", "tuned")]
    started = summary.created[:16].replace("T", " ")
    return [
        summary.name,
        summary.state,
        summary.mode,
        started,
        *(f"{loss:.3f}" if loss is not None else None for loss in losses),
    ]
