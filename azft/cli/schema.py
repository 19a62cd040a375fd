"""`azft schema`: the recipe's JSON Schema."""

from __future__ import annotations

import click

from azft.cli import options
from azft.cli.render import Output

EPILOG = """\b
Example:
  $ azft schema > recipe.schema.json
  and as the first line of the recipe:
  # yaml-language-server: $schema=recipe.schema.json

\b
  $ azft schema --query '"$defs".Training.properties.epochs.description'
  Passes over the training data.
"""


@click.command(epilog=EPILOG)
@options.output
def command(output: Output) -> None:
    """Print the JSON Schema of a recipe, which editors use to complete and check it.

    A schema has no table form: without -o it is printed as JSON.
    """
    from azft import api

    if output.is_table and output.query is None:
        output = Output("json", output.query)
    output.show(api.schema())
