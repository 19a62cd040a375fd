"""Reading the rows of a file one after the other, whatever its format: for everything that comes after the check.

The check itself reads in blocks (`azft.data.scan`); here rows come out whole and in their one normal form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from azft.data.formats import look_at, read_batches
from azft.data.json_faults import decode
from azft.data.rows import RowChecker, is_error
from azft.data.rules import Problem, finding
from azft.data.values import kind_of
from azft.errors import FindingsError
from azft.findings import Finding


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `line` is its 1-based line, or its number in a Parquet file; `data` its columns."""

    line: int
    data: dict[str, Any]


class Fault(NamedTuple):
    """What stands in the place of a row that can't be read, or is wrong with the file itself."""

    problem: Problem
    line: int | None


def read_rows(path: Path) -> Iterator[Row | Finding]:
    """Rows as they stand, streaming, with the file's own column names; a finding in place of what is not a row.

    Cells of CSV (and text cells of Parquet) are text, not yet read as JSON. Empty lines are findings, too (warnings).
    Never raises on account of the file: one that can't be read at all yields a single finding.
    """
    for item in read_items(path):
        yield item if isinstance(item, Row) else finding(item.problem, str(path), item.line)


def read_items(path: Path) -> Iterator[Row | Fault]:
    """`read_rows` with faults in the place of findings, for those who count them."""
    if (problem := look_at(path)) is not None:
        yield Fault(problem, None)
        return
    for batch in read_batches(path):
        for fault, line in batch.problems:
            yield Fault(fault, line)
        for line, raw in zip(batch.lines, batch.rows, strict=True):
            if isinstance(raw, dict):
                yield Row(line, raw)
            elif raw is not None:
                row, problem = _decoded(raw)
                yield Row(line, row) if problem is None else Fault(problem, line)


def first_row(path: Path) -> Row | None:
    """The first row of a file as it stands, whose columns tell what kind of rows they are; None where there is none."""
    return next((row for row in read_rows(path) if isinstance(row, Row)), None)


def iter_valid_rows(path: Path, task: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Checked rows in their normal form: the task's column names, JSON cells read, text parts joined, nulls left out.

    Raises `FindingsError` at the first row with an error; warnings are passed over. Empty lines are skipped.
    """
    checker = RowChecker(task, columns)
    if (problem := look_at(path)) is not None:
        _stop(path, [problem], None)
    for batch in read_batches(path):
        for problem, line in batch.problems:
            if is_error(problem):
                _stop(path, [problem], line)
        for line, raw in zip(batch.lines, batch.rows, strict=True):
            if raw is None:
                continue
            problems, row = checker.check_json(raw) if isinstance(raw, bytes) else checker.check(raw)
            errors = [problem for problem in problems if is_error(problem)]
            if errors:
                _stop(path, errors, line)
            if row is not None:
                yield Row(line, row)


def _decoded(raw: bytes) -> tuple[dict[str, Any], Problem | None]:
    if not raw.strip():
        return {}, Problem("empty-line")
    value, problem = decode(raw)
    if problem is not None:
        return {}, problem
    if not isinstance(value, dict):
        return {}, Problem("not-object", {"type": kind_of(value), "column": "..."})
    return value, None


def _stop(path: Path, problems: list[Problem], line: int | None) -> None:
    findings = [finding(problem, str(path), line) for problem in problems]
    where = f"{path}:{line}" if line else str(path)
    raise FindingsError(f"{where}: {findings[0].message}", findings, fix="See all of them with: azft check")
