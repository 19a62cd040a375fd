"""What tables, facts and findings look like to a person. Pure: data in, something printable out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement, measure_renderables
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from azft.cli.render import UNLIMITED, clean, console, symbols
from azft.findings import Finding, Severity, by_severity
from azft.words import duration, place, plural, size

__all__ = [
    "closing",
    "duration",
    "facts",
    "findings",
    "generic",
    "heading",
    "indent",
    "line",
    "place",
    "plural",
    "size",
    "summary",
    "table",
    "text",
]

NARROW = 70
"""Columns below which a finding is stacked instead of set side by side."""
_LONGEST_PLACE = 40
"""Columns of a place beside which there is still room for a text."""

_GAP = 2
"""Columns between two columns, and of an indent."""
NOTHING = "-"
"""In the place of a value that isn't there."""

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def text(value: Any, style: str = "") -> Text:
    """A value as printable text; control characters are made visible."""
    if value is None:
        return Text(NOTHING, style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no", style=style)
    if isinstance(value, float):
        return Text(f"{value:.6g}", style=style)
    return Text(clean(str(value)), style=style)


def line(value: Any) -> RenderableType:
    """A line that is taken as it is, by a shell for one: a terminal may break it, azft doesn't."""
    whole = text(value)
    whole.no_wrap, whole.overflow = True, "ignore"
    return Group(whole)  # by itself a console would make another text of it


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = ()) -> RenderableType:
    """Rows under bold headings, without lines; columns named in `right` are set flush right.

    No word is broken, because names and paths are copied: where the words have no room side by side, each row's first
    value stands by itself, above the others with their headings.
    """
    cells = [[value if isinstance(value, Text) else text(value) for value in row] for row in rows]
    return _Rows(tuple(columns), cells, frozenset(right))


@dataclass(frozen=True)
class _Rows:
    columns: tuple[str, ...]
    cells: Sequence[Sequence[Text]]
    right: frozenset[str]

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update(width=UNLIMITED)
        measured = [
            measure_renderables(screen, unlimited, [Text(name), *(row[number] for row in self.cells)])
            for number, name in enumerate(self.columns)
        ]
        room = options.max_width - _GAP * (len(self.columns) - 1)
        if sum(one.minimum for one in measured) > room:
            for first, *others in self.cells:
                yield first.copy()
                yield from self._below(others, options.max_width)
            return
        grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for name, width in zip(self.columns, _widths(measured, room), strict=True):
            grid.add_column(name, justify="right" if name in self.right else "left", overflow="fold", width=width)
        for values in self.cells:
            grid.add_row(*values)
        yield grid

    def _below(self, values: Sequence[Text], width: int) -> Iterator[RenderableType]:
        """`heading value  heading value`, as many to a line as have room; what is empty is left out."""
        line = Text()
        for name, value in zip(self.columns[1:], values, strict=True):
            if value.plain in ("", NOTHING):
                continue
            said = Text(f"{name} " if name else "", style="dim") + value
            if line and line.cell_len + _GAP + said.cell_len > width - _GAP:
                yield indent(line)
                line = Text()
            line = line + " " * _GAP + said if line else said
        if line:
            yield indent(line)


def _widths(measured: Sequence[Measurement], room: int) -> list[int]:
    """Widths of columns that have room together: the widest gives way first, down to its longest word."""
    widths = [min(one.maximum, room) for one in measured]
    while sum(widths) > room:
        widths[max(range(len(widths)), key=lambda n: (widths[n] > measured[n].minimum, widths[n]))] -= 1
    return widths


def facts(pairs: Iterable[tuple[str, Any]]) -> RenderableType:
    """`name  value` lines with the names aligned; a value that only a line of its own keeps whole gets one."""
    return _Facts([(name, value if isinstance(value, (Text, Table)) else text(value)) for name, value in pairs])


@dataclass(frozen=True)
class _Facts:
    pairs: Sequence[tuple[str, Text | Table]]

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> RenderResult:
        names = max((cell_len(name) for name, _ in self.pairs), default=0)
        beside = options.max_width - names - _GAP
        grid = self._grid(names)
        for name, value in self.pairs:
            longest = Measurement.get(screen, options.update(width=UNLIMITED), value).minimum
            under = len(name) - len(name.lstrip()) + _GAP
            if beside < longest <= options.max_width - under:
                yield grid
                yield Text(name, style="bold")
                yield Padding(value, (0, 0, 0, under), expand=False)
                grid = self._grid(names)
            else:
                grid.add_row(name, value)
        yield grid

    def _grid(self, names: int) -> Table:
        grid = Table.grid(padding=(0, _GAP, 0, 0))
        grid.add_column(style="bold", no_wrap=True, min_width=names)
        grid.add_column(overflow="fold")
        return grid


def heading(title: str) -> Text:
    """A title line above a block."""
    return Text(title, style="bold underline" if symbols(sys.stdout) else "bold")


def indent(renderable: RenderableType) -> RenderableType:
    """Two spaces further in."""
    return Padding(renderable, (0, 0, 0, _GAP), expand=False)


def summary(findings: Iterable[Finding]) -> Text:
    """`2 errors, 1 warning`; `No errors or warnings.` when there are none."""
    found = list(findings)
    parts = []
    for severity, noun in ((Severity.ERROR, "error"), (Severity.WARNING, "warning")):
        if count := sum(finding.severity is severity for finding in found):
            parts.append(Text(plural(count, noun), style=STYLES[severity]))
    return Text(", ").join(parts) if parts else Text("No errors or warnings.", style="green")


def findings(found: Iterable[Finding], *, stderr: bool = False) -> RenderableType:
    """Findings grouped by severity, errors first: where, what, and what to do."""
    ordered = by_severity(found)
    screen = console(stderr=stderr)
    # A place is to be clicked on and searched for, so it is never broken where there is room for it.
    longest = max((len(place(finding.where)) for finding in ordered), default=0)
    stacked = screen.width < NARROW or not 0 < longest <= _LONGEST_PLACE
    arrow = "→ " if symbols(sys.stderr if stderr else sys.stdout) else "-> "
    blocks: list[RenderableType] = []
    for severity, noun in ((Severity.ERROR, "error"), (Severity.WARNING, "warning"), (Severity.INFO, "note")):
        group = [finding for finding in ordered if finding.severity is severity]
        if not group:
            continue
        if blocks:
            blocks.append(Text(""))
        blocks.append(Text(plural(len(group), noun), style=STYLES[severity]))
        blocks.append(indent(_stacked(group, arrow) if stacked else _side_by_side(group, arrow)))
    return Group(*blocks)


def _what(finding: Finding, arrow: str) -> list[Text]:
    code = Text(f"  {finding.code}", style="dim")
    lines = [text(finding.message) + code]
    if finding.fix:
        lines.append(Text(arrow, style="dim") + text(finding.fix))
    return lines


def _side_by_side(group: Sequence[Finding], arrow: str) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in group:
        grid.add_row(text(place(finding.where)), Group(*_what(finding, arrow)))
    return grid


def _stacked(group: Sequence[Finding], arrow: str) -> RenderableType:
    lines: list[Text] = []
    for finding in group:
        if finding.where:
            lines.append(text(place(finding.where), style="bold"))
        lines.extend(_what(finding, arrow))
    return Group(*lines)


def generic(data: Any) -> RenderableType:
    """A table for data of any shape: what `--query` gives."""
    if isinstance(data, dict):
        return facts((str(key), _flat(value)) for key, value in data.items())
    if isinstance(data, list):
        if data and all(isinstance(row, dict) for row in data):
            columns = list(dict.fromkeys(key for row in data for key in row))
            return table(columns, [[_flat(row.get(column)) for column in columns] for row in data])
        return Group(*(text(_flat(value)) for value in data))
    return text(_flat(data))


def _flat(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        import json

        return json.dumps(value, ensure_ascii=not symbols(sys.stdout))
    return value


def closing(found: Iterable[Finding]) -> list[RenderableType]:
    """Findings and an empty line behind them; nothing when there are none."""
    listed = list(found)
    return [findings(listed), Text("")] if listed else []
