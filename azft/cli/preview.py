"""`azft preview`: rows as the model will see them, with what it learns from told apart."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from azft.cli import options
from azft.cli.render import Output, clean, console, symbols
from azft.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from azft.data.preview import PreviewReport, PreviewRow

EPILOG = """\b
Example:
  $ azft preview --rows 1
  train.jsonl:1  31 tokens, 14 in the loss
  <|user|>When are you open on Sunday?<|end|><|assistant|>[[On Sunday we are
  open from 8:00 to 11:30.<|end|>]]
\b
  1 row: 31 tokens, 14 of them (45 %) in the loss

\b
At a terminal what is outside the loss is dimmed; elsewhere what is inside
stands in double brackets.
"""


@click.command(epilog=EPILOG)
@options.recipe
@click.option(
    "--rows", type=click.IntRange(min=1), metavar="N", default=3, show_default=True, help="How many rows to show."
)
@options.output
def command(recipe: str, overrides: tuple[str, ...], rows: int, output: Output) -> int:
    """Show rows as the model will see them, and which tokens it learns from.

    Uses the model's own tokenizer and chat template (a stand-in's where the model is not on this machine).
    """
    from azft import api
    from azft.recipe_file import load_recipe

    report = api.preview(load_recipe(recipe, overrides=overrides), rows=rows)
    output.show(report.to_dict(), lambda: _view(report))
    return ExitCode.CHECK_FAILED if any(row.problem for row in report.rows) else ExitCode.DONE


def _view(report: PreviewReport) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from azft.cli import views

    parts: list[RenderableType] = []
    for row in report.rows:
        if row.problem is not None:
            parts += [views.findings([row.problem]), Text("")]
            continue
        long = row.tokens > report.max_length
        head = Text(f"{report.file}:{row.line}", style="bold")
        head += Text(f"  {views.plural(row.tokens, 'token')}, {row.loss_tokens:,} in the loss")
        if long:
            head += Text(f"  more than max_length ({report.max_length:,})", style="yellow")
        parts += [head, _text(row), Text("")]
    share = f" ({report.loss_tokens / report.tokens:.0%})" if report.tokens else ""
    total = f"{views.plural(len(report.rows), 'row')}: {views.plural(report.tokens, 'token')}, "
    total += f"{report.loss_tokens:,} of them{share} in the loss"
    return Group(*parts, *views.closing(report.findings), Text(total))


def _text(row: PreviewRow) -> Text:
    """The row's text: dimmed outside the loss, or with marks around the loss where nothing can be dimmed."""
    from rich.text import Text

    screen = console()
    styled = screen.is_terminal and not screen.is_dumb_terminal
    left, right = ("⟦", "⟧") if symbols(sys.stdout) else ("[[", "]]")
    text = Text()
    for segment in row.segments:
        shown = clean(segment.text)
        if styled:
            text.append(shown, style="green" if segment.in_loss else "dim")
        else:
            text.append(f"{left}{shown}{right}" if segment.in_loss else shown)
    return text
