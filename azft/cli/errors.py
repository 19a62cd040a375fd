"""What an error looks like: what happened and where, what to do, and every finding behind it. On standard error."""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from azft.cli.render import clean, write
from azft.cli.views import findings, indent
from azft.errors import AzftError, FindingsError
from azft.redact import redact

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_FOLDERS = "Runs are in .azft of the current folder (AZFT_HOME), models in azft's cache (AZFT_CACHE)."


def show_error(error: AzftError) -> None:
    """One headline, the findings when there are some, and the way out."""
    lines: list[RenderableType] = [Text("Error: ", style="bold red") + Text(clean(redact(error.message)))]
    found = error.findings if isinstance(error, FindingsError) else ()
    if found:
        lines.append(indent(findings(found, stderr=True)))
    if error.fix and all(error.fix != finding.fix for finding in found):
        lines.append(Text(clean(redact(error.fix))))
    write(Group(*lines), stderr=True)


def of_the_disk(error: OSError) -> AzftError | None:
    """The error that a person reads when a file or folder can't be used; None where azft itself must be wrong."""
    place, reason = error.filename, error.strerror
    if not isinstance(place, str | bytes) or not reason:
        return None
    shown = os.fsdecode(place)
    if error.errno in _FULL:
        return AzftError(f"{shown} can't be written: {reason}.", fix=f"Make room, or move what azft writes: {_FOLDERS}")
    own = [os.environ[name] for name in ("AZFT_HOME", "AZFT_CACHE") if os.environ.get(name)]
    if error.errno in _FORBIDDEN or any(Path(shown).is_relative_to(folder) for folder in own):
        return AzftError(f"{shown} can't be used: {reason}.", fix=f"Check the path and who may write there. {_FOLDERS}")
    return None


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
