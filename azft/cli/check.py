"""`azft check`: every problem of the recipe and its data, before anything costs time or money."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from azft.cli import options
from azft.cli.render import Output
from azft.errors import ExitCode, RecipeError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azft.data.check import DataReport
    from azft.findings import Finding

EPILOG = """\b
Example:
  $ azft check
  file                 rows  size
  train.jsonl           180  51.4 KiB
  validation.jsonl       24  6.6 KiB
\b
  1 error
    train.jsonl:17  Turn 2 (assistant) is empty.  data-empty-content
                    -> Write what the assistant says, or remove the row.

\b
Exit code: 0 without errors (warnings don't count), 5 with errors, 2 when the
recipe itself is not valid. In CI: azft check -o json > findings.json
"""


@click.command(epilog=EPILOG)
@options.recipe
@click.option(
    "--near-duplicates/--no-near-duplicates",
    default=True,
    show_default=True,
    help="Look for rows that are almost the same; costs time.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that read the files; by default one a core.",
)
@options.output
def command(
    recipe: str, overrides: tuple[str, ...], near_duplicates: bool, processes: int | None, output: Output
) -> int:
    """Find every problem of the recipe and its data, with line and fix.

    Reads every row once, in memory that does not grow with the file.
    """
    from azft import api
    from azft.recipe_file import load_recipe

    try:
        file = load_recipe(recipe, overrides=overrides)
    except RecipeError as error:
        if output.is_table and output.query is None:
            raise
        output.show({"findings": [finding.to_dict() for finding in error.findings], "files": []})
        return ExitCode.USAGE
    report = api.check(file, near_duplicates=near_duplicates, processes=processes)
    output.show(report.to_dict(), lambda: _view(report))
    from azft.findings import has_errors

    return ExitCode.CHECK_FAILED if has_errors(report.findings) else ExitCode.DONE


def _view(report: DataReport) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from azft.cli import views

    found: tuple[Finding, ...] = report.findings
    rows = [(views.place(file.path), file.rows, views.size(file.bytes)) for file in report.files]
    parts = [views.table(("file", "rows", "size"), rows, right=("rows", "size")), Text("")] if rows else []
    return Group(*parts, *views.closing(found), views.summary(found))
