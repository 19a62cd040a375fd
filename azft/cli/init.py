"""`azft init`: lay out a recipe and example data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from azft.cli import options
from azft.cli.render import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

EPILOG = """\b
Example:
  $ azft init demo
  demo/recipe.yaml         the recipe: every key explained
  demo/recipe.schema.json  lets your editor complete and check it
  demo/train.jsonl         180 rows to learn from
  demo/validation.jsonl    24 rows to evaluate on while training
  demo/test.jsonl          24 held-out rows for before and after

\b
  Next: azft submit demo/recipe.yaml --mode local
"""


@click.command(epilog=EPILOG)
@click.argument("folder", default=".")
@click.option("--task", default="chat-completion", show_default=True, help="What the model shall learn.")
@click.option("--model", help="The recipe's model: a catalog name, hub id, azureml:// id or folder.")
@click.option("--name", help="The recipe's name; the folder's name by default.")
@click.option("--force", is_flag=True, help="Write over files that are already there.")
@options.output
def command(folder: str, task: str, model: str | None, name: str | None, force: bool, output: Output) -> None:
    """Write a commented recipe, its schema and example data into FOLDER.

    The example is a bakery's assistant, and can be trained on as it is. For your own data, change the three paths and
    the model in the recipe.
    """
    from azft import api

    scaffold = api.init(folder, task=task, model=model, name=name, force=force)
    data = {"folder": str(scaffold.folder), "files": [str(file) for file in scaffold.files]}

    def view() -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        from azft.cli.views import facts

        rows = [(str(file), scaffold.describe(file)) for file in scaffold.files]
        return Group(facts(rows), Text(""), Text(f"Next: azft submit {scaffold.recipe} --mode local"))

    output.show(data, view)
