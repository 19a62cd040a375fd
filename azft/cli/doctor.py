"""`azft doctor`: what is installed here, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from azft.cli import options
from azft.cli.render import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azft.machine import Machine

EPILOG = """\b
Example:
  $ azft doctor
  azft      0.1.0, Python 3.11.7, Linux-6.1
  cores     8
  memory    31.2 GiB
  GPU       none
  cache     /home/you/.cache/azft (214.0 GiB free)
  data      installed: jinja2 3.1.6, numpy 2.4.6, pyarrow 26.0.1, ...
  train     missing: torch, transformers

\b
  1 warning
    Not installed: torch, transformers (training and chat).
    -> Install: python -m pip install 'azft[train]'
"""


@click.command(epilog=EPILOG)
@options.output
def command(output: Output) -> None:
    """Say what is installed here, and what is missing for what.

    Looks at package versions, cores, memory, GPUs and the cache. Needs no network.
    """
    from azft import api

    machine = api.doctor()
    output.show(machine.to_dict(), lambda: _view(machine))


def _view(machine: Machine) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from azft.cli import views

    gpus = [f"{gpu.name}, {gpu.memory_mib / 1024:.0f} GiB" for gpu in machine.gpus]
    free = "" if machine.cache_free is None else f" ({views.size(machine.cache_free)} free)"
    rows: list[tuple[str, object]] = [
        ("azft", f"{machine.azft}, Python {machine.python}, {machine.platform}"),
        ("cores", machine.cores),
        ("memory", None if machine.memory is None else views.size(machine.memory)),
        ("GPU", ", ".join(gpus) or "none"),
        ("cache", machine.cache + free),
    ]
    for extra in machine.extras:
        if extra.complete:
            versions = ", ".join(f"{name} {number}" for name, number in extra.installed.items())
            rows.append((extra.name, f"installed: {versions}"))
        else:
            rows.append((extra.name, Text(f"missing: {', '.join(extra.missing)}", style="yellow")))
    ready = "A recipe can be trained here." if machine.ready else "Recipes can be checked here, but not trained."
    return Group(views.facts(rows), Text(""), *views.closing(machine.findings), Text(ready))
