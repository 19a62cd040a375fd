"""`azft deploy`: a run's model behind an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from azft.cli import options
from azft.cli.render import Output, note

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azft.azureml.deployment import Deployment

EPILOG = """\b
Example:
  $ azft deploy bakery-3f2a91c0 --instance-type Standard_NC24ads_A100_v4
  online endpoint bakery-3f2a91c0-77d1: Creating
  deployment azft: Succeeded after 9 min 40 s
  endpoint   bakery-3f2a91c0-77d1
  kind       vllm
  ...
  It bills by the hour for each instance, used or not. End it: azft down ...

\b
Which kind follows from the run: serverless for Azure's serverless
fine-tuning, mlflow for the registry's pipelines, vllm for azft's own pipeline
and for runs of this machine. Deploying twice gives the same endpoint.
"""


@click.command(epilog=EPILOG)
@options.azure
@options.run
@click.option("--name", help="Name of the endpoint; by default the run's, made short.")
@click.option(
    "--kind",
    type=click.Choice(["serverless", "mlflow", "vllm"]),
    help="How to serve it; by default as the run wants it.",
)
@click.option("--instance-type", metavar="SIZE", help="VM size of the instances; else what the registry recommends.")
@click.option(
    "--instances", type=click.IntRange(min=1), metavar="N", default=1, show_default=True, help="How many of them."
)
@options.output
def command(
    run: Any,
    name: str | None,
    kind: Any,
    instance_type: str | None,
    instances: int,
    access: Any,
    output: Output,
) -> None:
    """Put a run's model behind an endpoint in Azure, and wait until it answers.

    RUN is a run's name, or the start of it. The model is registered first where it isn't yet. It bills until
    `azft down`.
    """
    from azft import api
    from azft.cli.serving_words import tell_progress

    deployment = api.deploy(
        run,
        name=name,
        kind=kind,
        instance_type=instance_type,
        instances=instances,
        access=access,
        on_event=tell_progress(output),
    )
    output.show(deployment.to_dict(), lambda: _view(deployment))
    if output.is_table:
        note(f"It bills {deployment.billing}. End it: azft down {deployment.name}")
        note(f'Talk to it: azft chat --endpoint {deployment.name} --prompt "..."')


def _view(deployment: Deployment) -> RenderableType:
    from azft.cli import views

    rows: list[tuple[str, Any]] = [
        ("endpoint", deployment.name),
        ("kind", deployment.kind),
        ("model", deployment.model),
        ("run", deployment.run),
        ("state", deployment.state),
        ("address", deployment.url),
    ]
    if deployment.instance_type is not None:
        rows.append(("machines", f"{deployment.instance_count} x {deployment.instance_type}"))
    rows.append(("an hour", deployment.hourly))
    return views.facts(rows)
