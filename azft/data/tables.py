"""Rows of CSV and Parquet files as dicts of cells, in batches with their line or row numbers."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from azft.data.blocks import MAX_LINE, LongLine, read_blocks
from azft.data.rules import Problem
from azft.data.sources import BOM, Batch, too_long
from azft.errors import first_line
from azft.words import plural

_ROWS = 256
"""Rows in a batch; with native Parquet lists a row may be large."""

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


class _TooLongError(Exception):
    def __init__(self, size: int) -> None:
        self.size = size


def csv_rows(path: Path) -> Iterator[Batch]:
    """Batches of a CSV file with a header. A row's line is the one that it begins on.

    A row with bytes that are not UTF-8 is reported and left out.
    """
    # Process-wide, as the csv module has it; its default of 128 KiB is too little for chats.
    csv.field_size_limit(MAX_LINE)
    problems: list[tuple[Problem, int | None]] = []
    spoilt: list[int] = []
    reader = csv.reader(_text_lines(path, problems, spoilt), strict=True)
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    line = 1
    header: list[str] = []
    try:
        header = next(reader, [])
        if spoilt:
            yield Batch([], [], problems)
            return
        if reason := _header_fault(header):
            yield Batch([], [], [*problems, (Problem("csv-header", {"reason": reason}), 1)])
            return
        if separator := _other_separator(header):
            yield Batch([], [], [*problems, (Problem("csv-separator", {"found": separator}), 1)])
            return
        line = reader.line_num + 1
        for cells in reader:
            if spoilt:  # reported already; the reader takes no line beyond its row's
                spoilt.clear()
            elif not cells:
                problems.append((Problem("empty-line"), line))
            elif len(cells) != len(header):
                values = {"found": plural(len(cells), "cell"), "expected": len(header)}
                problems.append((Problem("csv-width", values), line))
            else:
                rows.append(dict(zip(header, cells, strict=True)))
                lines.append(line)
            if len(rows) >= _ROWS or len(problems) >= _ROWS:
                yield Batch(rows, lines, problems)
                rows, lines, problems[:] = [], [], []
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append((Problem("csv-broken", {"reason": str(error)}), line))
    except _TooLongError as error:
        problems.append((too_long("line", error.size), line))
    yield Batch(rows, lines, problems)


def _text_lines(path: Path, problems: list[tuple[Problem, int | None]], spoilt: list[int]) -> Iterator[str]:
    """Lines as text. Those with bytes that are not UTF-8 are reported, and their numbers added to `spoilt`."""
    number = 0
    first = True
    for piece in read_blocks(path):
        if isinstance(piece, LongLine):
            raise _TooLongError(piece.bytes)
        if first and piece.startswith(BOM):
            problems.append((Problem("bom"), 1))
        *lines, last = (piece.removeprefix(BOM) if first else piece).split(b"\n")
        first = False
        for line, end in [*((line, "\n") for line in lines), *([(last, "")] if last else [])]:
            number += 1
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                values = {"byte": error.start + 1, "value": f"0x{line[error.start]:02X}"}
                problems.append((Problem("not-utf8", values), number))
                spoilt.append(number)
                text = line.decode("utf-8", "replace")
            yield text + end


def _other_separator(header: list[str]) -> str:
    """What parts the columns of a header in which no comma does: spreadsheets write the one of their country."""
    if len(header) != 1:
        return ""
    return next((name for mark, name in _SEPARATORS.items() if mark in header[0]), "")


def _header_fault(header: list[str]) -> str:
    if not any(name.strip() for name in header):
        return "is empty"
    if not all(name.strip() for name in header):
        return "has a column without a name"
    twice = sorted({name for name in header if header.count(name) > 1}) if len(header) < 1000 else []
    return f"names {', '.join(f'`{name}`' for name in twice)} twice" if twice else ""


def parquet_rows(path: Path) -> Iterator[Batch]:
    """Batches of a Parquet file; lines are row numbers. Nulls of nested structs are left out of their objects."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        values = {"reason": "reading Parquet needs the package `pyarrow`", "fix": "pip install 'azft[data]'"}
        yield Batch([], [], [(Problem("unreadable", values), None)])
        return
    number = 1
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                rows = [_without_nulls(row) for row in batch.to_pylist()]
                yield Batch(rows, range(number, number + len(rows)))
                number += len(rows)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = first_line(error).rstrip(".")
        yield Batch([], [], [(Problem("parquet-broken", {"reason": reason}), number if number > 1 else None)])


def _without_nulls(value: Any) -> Any:
    """A struct column has every key in every row, null where it was not given."""
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_without_nulls(child) for child in value]
    return value
