"""Writes the generated pages of docs/: recipe.md from the recipe's classes, cli.md from the commands themselves.

Run it with: make docs. A test fails when a page is not current.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from azft.cli.group import SECTIONS
from azft.cli.main import cli
from azft.errors import ExitCode
from azft.recipe_schema import reference
from azft.targets.reference import tables
from tests.matrix.outcomes import page as matrix_page

DOCS = Path(__file__).parent.parent / "docs"
WIDTH = 80
TABLES_BEGIN = "azft/targets and azft/catalog; a test fails when they are not current. -->"
TABLES_END = "<!-- end of the tables -->"

INTRODUCTION = """\
# The commands

<!-- Written by scripts/generate_docs.py from the commands' own help; a test fails when it is not current. -->

What holds for every command:

- Data goes to standard output, everything else (progress, warnings, errors, hints) to standard error.
- `-o table|json|yaml|tsv|none` chooses the form of the data. The default is `table`, at a terminal or not: a script
  says what it wants, or sets `AZFT_OUTPUT`. A table that is piped is not wrapped, cut off or coloured. `tsv` has values
  only, a line a row, no header.
- `--query` takes a [JMESPath](https://jmespath.org) expression and works on the data of every form.
- RUN is a run's name, or the start of it where only one run starts so. Every command that takes a run takes `--latest`
  in its place, the newest run of this folder; `cancel`, too, because `resume` goes on with what it stopped. `down`
  doesn't: what it ends doesn't come back, so it is named, or all of it (`--all`).
- `submit` and `resume` with `-o json` write one event a line as it happens; the last one has `"event": "result"`, or
  `"event": "error"` with the exit code.
- A narrow terminal breaks no name and no path that has room on a line: columns of words give way, and where that isn't
  enough, each row stands under its name.
- `NO_COLOR`, `FORCE_COLOR`, `COLUMNS` and `TERM=dumb` are honoured.
- Nothing is asked without a terminal; the error names the option to give.
- An error says what happened, where, and what to do. `--debug` (or `AZFT_DEBUG=1`) adds the traceback, with secrets
  blotted out.

| exit code | meaning |
| --- | --- |
"""
CODES = {
    ExitCode.DONE: "done",
    ExitCode.FAILURE: "failure",
    ExitCode.USAGE: "bad usage, or a recipe that does not validate",
    ExitCode.NOT_FOUND: "a run, model or file that is not there, or a stale plan",
    ExitCode.SIGN_IN: "sign-in",
    ExitCode.CHECK_FAILED: "a check found errors",
    ExitCode.LIMIT: "a quota or price limit",
    ExitCode.JOB_FAILED: "the job failed",
    ExitCode.INTERRUPTED: "interrupted; the message says how to go on",
}
ENVIRONMENT = """
| environment variable | what it does |
| --- | --- |
| `AZFT_OUTPUT` | the default of `-o` |
| `AZFT_DEBUG=1` | as `--debug` |
| `AZFT_HOME` | the folder of runs and finished steps, instead of `.azft` in the current folder |
| `AZFT_CACHE` | the folder of models, instead of the system's cache folder |
| `AZFT_RECIPE__TRAINING__EPOCHS=1` | overrides a key of the recipe, here `training.epochs`; `--set` wins |
"""


def command_page() -> str:
    """docs/cli.md."""
    lines = [INTRODUCTION.rstrip("\n"), *(f"| {int(code)} | {CODES[code]} |" for code in ExitCode), ENVIRONMENT]
    settings = {**cli.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    with click.Context(cli, info_name="azft", **settings) as root:
        for title, commands in SECTIONS.items():
            lines += [f"## {title}", ""]
            for name in commands:
                command = cli.get_command(root, name)
                assert command is not None
                for full, help_text in _help(command, name, root):
                    lines += [f"### {full}", "", "```text", help_text.rstrip(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _help(command: click.Command, name: str, parent: click.Context) -> Iterator[tuple[str, str]]:
    with click.Context(command, parent=parent, info_name=name, terminal_width=WIDTH) as context:
        yield context.command_path, "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        if isinstance(command, click.Group):
            for child, subcommand in command.commands.items():
                yield from _help(subcommand, child, context)


def pages() -> dict[str, str]:
    """File name -> text."""
    return {
        "recipe.md": reference().rstrip() + "\n",
        "cli.md": command_page(),
        "azure.md": azure_page(),
        "matrix.md": matrix_page(),
    }


def azure_page() -> str:
    """docs/azure.md, written by hand, with its tables made anew."""
    text = (DOCS / "azure.md").read_text(encoding="utf-8")
    start, end = text.index(TABLES_BEGIN) + len(TABLES_BEGIN), text.index(TABLES_END)
    return f"{text[:start]}\n\n{tables()}\n{text[end:]}"


if __name__ == "__main__":
    for page, content in pages().items():
        (DOCS / page).write_text(content, encoding="utf-8", newline="\n")
        print(DOCS / page)
