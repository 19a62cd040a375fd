"""`azft register`: a run's model as a version in the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from azft.cli import options
from azft.cli.render import Output, note

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azft.azureml.registration import RegisteredModel

EPILOG = """\b
Example:
  $ azft register dialog-summaries-3f2a91c0
  model   dialog-summaries:3f2a91c0
  type    custom_model
  run     dialog-summaries-3f2a91c0
  by      azft, now
  Serve it: azft deploy dialog-summaries-3f2a91c0

\b
Registering twice gives the same version. A model that the fine-tuning service
registered itself is found and shown. A run of this machine is uploaded.
"""


@click.command(epilog=EPILOG)
@options.azure
@options.run
@click.option("--name", help="Name of the model in the workspace; by default the recipe's.")
@options.output
def command(run: Any, name: str | None, access: Any, output: Output) -> None:
    """Register a run's model in the Azure ML workspace.

    RUN is a run's name, or the start of it.
    """
    from azft import api
    from azft.cli.serving_words import tell_progress

    model = api.register(run, name=name, access=access, on_event=tell_progress(output))
    output.show(model.to_dict(), lambda: _view(model))
    if output.is_table:
        note(f"Serve it: azft deploy {run.name}")


def _view(model: RegisteredModel) -> RenderableType:
    from azft.cli import views

    when = "now" if model.created else "earlier"
    rows = [
        ("model", model.reference),
        ("type", model.type),
        ("run", model.run),
        ("by", f"{model.registered_by}, {when}"),
    ]
    return views.facts(rows)
