"""`azft export-azureml`: the job of a recipe as Azure ML's own YAML, for those who go on without azft."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from azft.cli import options
from azft.cli.render import Output, note
from azft.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import RenderableType

EPILOG = """\b
Example:
  $ azft export-azureml recipe.yaml --mode maap --out job
  job   job/pipeline.yml
  ...
  $ cd job && az ml job create --file pipeline.yml -g my-group -w my-workspace

\b
The folder holds all that the job reads from this machine: data, code,
parameters, components and environments. It can be moved and kept.
"""


@click.command(epilog=EPILOG)
@options.recipe
@click.option(
    "--mode",
    type=click.Choice(["maas", "maap"]),
    default="maap",
    show_default=True,
    help="Where it is to run: on Azure's serverless fine-tuning, or on your own machines in Azure ML.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False),
    metavar="DIR",
    callback=options.not_empty,
    help="Write into this new folder.",
)
@options.output
def command(recipe: str, overrides: tuple[str, ...], mode: str, out: str, output: Output) -> int:
    """Write the job of a recipe as YAML that `az ml job create` takes.

    Nothing is sent, and no account is asked for. Exit code 5 when a finding stands in the way.
    """
    from azft import api
    from azft.recipe_file import load_recipe

    file = api.export_azureml(load_recipe(recipe, overrides=overrides), out, mode=mode)
    data = {"job": str(file), "files": sorted(str(p) for p in file.parent.rglob("*") if p.is_file())}

    def view() -> RenderableType:
        from azft.cli import views

        return views.facts([("job", views.place(file)), ("files", len(data["files"]))])

    output.show(data, view)
    from azft.cli.views import place

    submit = f"cd {place(file.parent)} && az ml job create --file {file.name}"
    note(f"Submit it without azft: {submit} --resource-group ... --workspace-name ...")
    return ExitCode.DONE
