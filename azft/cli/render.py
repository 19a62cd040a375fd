"""The one renderer: data on standard output as table, JSON, YAML or TSV, everything else on standard error.

A command hands over plain data and a view for people. It never prints by itself, so every command has every format.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from azft.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

FORMATS = ("table", "json", "yaml", "tsv", "none")
UNLIMITED = 100_000
"""Columns of a "terminal" that isn't one: what is piped or saved is never wrapped or cut off."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """Text from data or a model, with control characters made visible, so that it can't steer the terminal."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


@dataclass(frozen=True)
class Output:
    """How a command's data is shown: the values of `-o` and `--query`."""

    format: str = "table"
    query: str | None = None

    @property
    def is_table(self) -> bool:
        """Whether a person reads the output, rather than a program."""
        return self.format == "table"

    def show(self, data: Any, view: Callable[[], RenderableType] | None = None) -> None:
        """Write `data` (JSON values) to standard output; `view` makes the table form of data that no query changed."""
        if self.query is not None:
            data, view = _search(self.query, data), None
        if self.format == "none":
            return
        if self.format == "table":
            from azft.cli.views import generic

            write(view() if view is not None else generic(data))
        elif self.format == "json":
            _print(_json(data, indent=2))
        elif self.format == "yaml":
            _print(_yaml(data))
        else:
            _print("\n".join(_tsv(data)))

    def stream(self, event: dict[str, Any]) -> None:
        """Write one event as a line of JSON, at once."""
        shown = event if self.query is None else _search(self.query, event)
        if shown is not None and self.format != "none":
            _print(_json(shown, indent=None))
            sys.stdout.flush()


def write(renderable: RenderableType, *, stderr: bool = False) -> None:
    """Print something for a person. Without a terminal: no colour, no trailing spaces, wrapped if COLUMNS says so."""
    screen = console(stderr=stderr)
    if screen.is_terminal:
        screen.print(renderable, crop=False)
        return
    with screen.capture() as capture:
        screen.print(renderable, soft_wrap=screen.width == UNLIMITED, crop=False)
    lines = capture.get().rstrip("\n").split("\n")
    _print("\n".join(line.rstrip() for line in lines), sys.stderr if stderr else sys.stdout)


def note(text: str) -> None:
    """One line for a person on standard error."""
    from rich.text import Text

    write(Text(clean(text)), stderr=True)


def console(*, stderr: bool = False) -> Console:
    """A rich console that takes nothing in our text for markup. NO_COLOR, FORCE_COLOR and TERM=dumb are honoured."""
    from rich.console import Console

    file = sys.stderr if stderr else sys.stdout
    if file.isatty() or os.environ.get("COLUMNS"):
        return Console(file=file, highlight=False, markup=False, emoji=False)
    # With a height, too, or rich takes TERM=dumb for 80 columns.
    return Console(file=file, width=UNLIMITED, height=25, highlight=False, markup=False, emoji=False)


def is_interactive() -> bool:
    """Whether somebody can answer a question: a terminal both ways."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def symbols(stream: TextIO) -> bool:
    """Whether the stream can carry more than ASCII."""
    return (stream.encoding or "ascii").lower().replace("-", "").startswith("utf")


def _print(text: str, stream: TextIO | None = None) -> None:
    file = stream or sys.stdout
    file.write(text + "\n")


def _search(query: str, data: Any) -> Any:
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.search(query, data)
    except JMESPathError as error:
        raise UsageError(
            f"--query is not valid JMESPath: {str(error).splitlines()[0]}",
            fix="For example: --query \"findings[?severity=='error'].message\". The language: https://jmespath.org",
        ) from None


def _json(data: Any, indent: int | None) -> str:
    # An ASCII stream gets ASCII JSON; a lone surrogate is escaped by the stream (`backslashreplace`), as JSON does.
    return json.dumps(data, indent=indent, ensure_ascii=not symbols(sys.stdout))


def _yaml(data: Any) -> str:
    import yaml

    return yaml.safe_dump(data, sort_keys=False, allow_unicode=symbols(sys.stdout), width=120).rstrip("\n")


def _tsv(data: Any) -> list[str]:
    """Values only, a line a row, no header: for `cut`, `while read` and spreadsheets."""
    rows = data if isinstance(data, list) else [data]
    return ["\t".join(_cell(value) for value in _values(row)) for row in rows]


def _values(row: Any) -> list[Any]:
    if isinstance(row, dict):
        return list(row.values())
    return row if isinstance(row, list) else [row]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return _json(value, indent=None)
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
