"""`azft convert`: a file in another format, as the JSON lines that a task reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from azft.cli import options
from azft.cli.render import Output, note
from azft.errors import ExitCode, FindingsError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azft.data.convert import Conversion

EPILOG = """\b
Example:
  $ azft convert train.jsonl chats.jsonl
  format  openai
  task    chat-completion
  rows    180
  file    chats.jsonl

\b
Formats, told by their columns:
  sharegpt    conversations of {from, value}, function calls too
  openai      messages; developer turns, text parts, older function calls
  alpaca      instruction, input, output, system, history
  azure       text, ground_truth
  completion  prompt, completion
  turns       user, assistant, system
  preference  chosen, rejected; or preferred_output, non_preferred_output
  squad       SQuAD's nested file, or question, context, answers
  conll       a token and its tag on each line (--from conll, or .conll)
  pictures    file_name, text: pictures in files, which go into the rows
  columns     the task's own, all named with --columns

\b
A table with columns of its own:
  azft convert faq.csv faq.jsonl --columns user=Question \\
      --columns assistant=Answer
IN and OUT may be - for standard input and output. IN may be .jsonl, .json,
.csv or .parquet. Exit code 5 when a row can't be converted: nothing is
written then.
"""


@click.command(epilog=EPILOG)
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option("--task", help="Whose rows to write; by default the format's first.")
@click.option("--from", "source_format", metavar="FORMAT", help="The format of IN; by default the first row tells it.")
@click.option(
    "--columns",
    metavar="NAME=THEIRS",
    multiple=True,
    help="What IN calls a column of the format or task; in CoNLL files its number. Repeatable.",
)
@click.option("--skip-errors", is_flag=True, help="Leave out rows that can't be converted, and say which.")
@click.option("--force", is_flag=True, help="Write over OUT if it is there already.")
@options.output
def command(
    source: str,
    target: str,
    task: str | None,
    source_format: str | None,
    columns: tuple[str, ...],
    skip_errors: bool,
    force: bool,
    output: Output,
) -> int:
    """Make a task's JSON lines of a file in another format.

    Every row that comes out has passed the data check. The file is written whole or not at all.
    """
    from azft import api

    names = dict(_pair(given) for given in columns)
    try:
        done = api.convert(
            source, target, task=task, format=source_format, columns=names, skip_errors=skip_errors, force=force
        )
    except FindingsError as error:
        if output.is_table and output.query is None:
            raise
        output.show({"findings": [finding.to_dict() for finding in error.findings], "rows": 0})
        return ExitCode.CHECK_FAILED
    if target != "-":
        output.show(done.to_dict(), lambda: _view(done))
        return ExitCode.DONE
    note(
        f"{done.rows:,} rows of {done.task} from {done.format}" + (f", {done.skipped:,} left out" * bool(done.skipped))
    )
    for finding in done.findings:
        note(str(finding))
    return ExitCode.DONE


def _pair(given: str) -> tuple[str, str]:
    name, equals, theirs = given.partition("=")
    if not (name and equals and theirs):
        raise UsageError(f"--columns {given} is not NAME=THEIRS.", fix="For example: --columns user=Question")
    return name, theirs


def _view(done: Conversion) -> RenderableType:
    from rich.console import Group

    from azft.cli import views

    rows = [("format", done.format), ("task", done.task), ("rows", f"{done.rows:,}")]
    if done.skipped:
        rows.append(("left out", f"{done.skipped:,}"))
    rows.append(("file", str(views.place(done.target))))
    return Group(*views.closing(done.findings), views.facts(rows))
