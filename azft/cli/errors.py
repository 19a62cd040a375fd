"""What an error looks like: what happened and where, what to do, and every finding behind it. On standard error."""

from __future__ import annotations

import traceback

from rich.console import Group, RenderableType
from rich.text import Text

from azft.cli.render import clean, write
from azft.cli.views import findings, indent
from azft.errors import AzftError, FindingsError
from azft.redact import redact


def show_error(error: AzftError) -> None:
    """One headline, the findings when there are some, and the way out."""
    lines: list[RenderableType] = [Text("Error: ", style="bold red") + Text(clean(redact(error.message)))]
    found = error.findings if isinstance(error, FindingsError) else ()
    if found:
        lines.append(indent(findings(found, stderr=True)))
    if error.fix and all(error.fix != finding.fix for finding in found):
        lines.append(Text(clean(redact(error.fix))))
    write(Group(*lines), stderr=True)


def show_unexpected(error: Exception, *, debug: bool) -> None:
    """An exception that nobody foresaw: its kind and message, and how to see more."""
    what = redact(clean(f"{type(error).__name__}: {error}"))
    lines = [
        Text("Error: ", style="bold red") + Text(f"azft stopped on something it does not know. {what}"),
    ]
    if not debug:
        lines.append(Text("Add --debug to see where. If your input looks right, this is a bug: please report it."))
    write(Group(*lines), stderr=True)


def show_traceback() -> None:
    """The traceback of the exception that is being handled, with secrets blotted out."""
    write(Text(redact(traceback.format_exc())), stderr=True)
