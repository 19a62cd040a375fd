"""`azft outputs`: what came out of a run, and bringing it here from Azure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from azft.cli import options
from azft.cli.render import Output, note
from azft.errors import NotFoundError

if TYPE_CHECKING:
    from rich.console import RenderableType

EPILOG = """\b
Example:
  $ azft outputs support-chat-3f2a91c0
  output    files  size       place
  packaged      9  2.1 GiB    azft/jobs/support-chat-3f2a91c0/packaged
  ...
  $ azft outputs support-chat-3f2a91c0 packaged --download models

\b
A download that was cut off goes on where it was; each file is checked by its
size, and by its MD5 where Azure has one, before it gets its name.
"""


@click.command(epilog=EPILOG)
@options.azure
@options.run_and_names
@click.option(
    "--download",
    "folder",
    type=click.Path(file_okay=False),
    metavar="DIR",
    callback=options.not_empty,
    help="Bring them here, a folder each.",
)
@options.output
def command(run: Any, access: Any, names: tuple[str, ...], folder: str | None, output: Output) -> None:
    """List what came out of a run, or bring it here with --download.

    RUN is a run's name, or the start of it; NAME one of its outputs, all of them by default.
    """
    from azft import api

    if folder is not None:
        places = api.download(run, names, folder=folder, on_event=_tell, access=access)
        rows = [{"name": name, "path": str(path)} for name, path in places.items()]
        output.show(rows, lambda: _places(rows))
        return
    if run.remote:
        listed = [entry.to_dict() for entry in api.remote_outputs(run, access=access)]
        found = _picked(run, listed, names)
        output.show(found, lambda: _remote(found))
        return
    here = _picked(run, [{"name": name, "path": str(path)} for name, path in run.outputs().items()], names)
    output.show(here, lambda: _places(here))


def _picked(run: Any, listed: list[dict[str, Any]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    there = [entry["name"] for entry in listed]
    for name in names:
        if name not in there:
            fix = f"There are: {', '.join(there) or 'none'}."
            raise NotFoundError(f"Run {run.name} has no output `{name}`.", fix=fix)
    return [entry for entry in listed if not names or entry["name"] in names]


def _remote(rows: list[dict[str, Any]]) -> RenderableType:
    from azft.cli import views

    shown = [
        (r["name"], r["files"] or None, views.size(r["bytes"]) if r["files"] else None, r["asset"] or r["path"])
        for r in rows
    ]
    return views.table(("output", "files", "size", "place"), shown, right=("files", "size"))


def _places(rows: list[dict[str, Any]]) -> RenderableType:
    from azft.cli import views

    return views.table(("output", "place"), [(row["name"], views.place(Path(row["path"]))) for row in rows])


def _tell(event: dict[str, Any]) -> None:
    from azft.cli import views

    if event["event"] == "downloaded":
        note(f"{event['output']}/{event['file']}: {views.size(event['bytes'])}")
