"""`azft runs`: the runs of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from azft.cli import options
from azft.cli.render import Output, note
from azft.errors import AzftError, ExitCode
from azft.words import minute

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azft.azureml.remote_runs import RemoteRun
    from azft.run_summary import RunSummary

EPILOG = """\b
Example:
  $ azft runs
  run                     state      mode   started           before  after
  linden-bakery-3f2a91c0  Completed  local  2026-11-24 03:40   6.812  1.402

\b
  $ azft runs -o tsv --query "[?state=='Completed'].name"

\b
What other machines started in Azure:
  $ azft runs --remote
  run            state    mode  started           by        job
  sums-3f2a91c0  Running  maap  2026-11-24 03:40  an owner  sums-3f2a91c0
"""


@click.command(epilog=EPILOG)
@click.option("--remote", is_flag=True, help="List the runs of the Azure ML workspace, whoever started them.")
@options.azure
@options.output
def command(remote: bool, access: Any, output: Output) -> int:
    """List the runs of this folder, newest first.

    They lie in .azft/runs (AZFT_HOME moves .azft). Times are UTC; the last two columns are the held-out loss before and
    after. The state of a run in Azure is the one last known here; `azft status` looks it up.
    """
    from azft import api

    if remote:
        found = api.remote_runs(access=access)
        output.show([run.to_dict() for run in found], lambda: _remote_view(found))
        if not found and output.is_table:
            note("The workspace has no runs of azft.")
        return ExitCode.DONE

    summaries, damaged = [], []
    for run in api.runs():
        try:
            summaries.append(api.summarize(run))
        except AzftError as error:  # one that is damaged hides no other
            damaged.append(error)
    output.show([summary.to_dict() for summary in summaries], lambda: _view(summaries))
    for broken in damaged:
        note(f"Not listed: {broken.message} {broken.fix}")
    if not summaries and not damaged and output.is_table:
        note("There are no runs here yet. Start one with: azft submit recipe.yaml")
    return ExitCode.FAILURE if damaged else ExitCode.DONE


def _view(summaries: list[RunSummary]) -> RenderableType:
    from azft.cli import views

    columns = ("run", "state", "mode", "started", "before", "after")
    return views.table(columns, [_row(summary) for summary in summaries], right=("before", "after"))


def _remote_view(found: list[RemoteRun]) -> RenderableType:
    from azft.cli import views

    rows = [(r.name, r.state, r.mode, minute(r.created), r.started_by, r.job) for r in found]
    return views.table(("run", "state", "mode", "started", "by", "job"), rows)


def _row(summary: RunSummary) -> list[object]:
    evaluation = summary.evaluation or {}
    losses = [evaluation.get(model, {}).get("loss") for model in ("base", "tuned")]
    return [
        summary.name,
        summary.state,
        summary.mode,
        summary.started and minute(summary.started),
        *(f"{loss:.3f}" if loss is not None else None for loss in losses),
    ]
