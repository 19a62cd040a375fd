"""Which foreign format a file has: the one asked for, or what its name and first row show; and what to say if none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from azft.data.column_names import guess_columns
from azft.data.columns import KINDS
from azft.data.foreign import FORMATS, Format
from azft.data.foreign_chat import value_of
from azft.data.foreign_files import CONLL_ENDINGS, is_nested_json
from azft.data.formats import look_at
from azft.data.readers import Row, first_row, read_items
from azft.data.rules import Problem
from azft.data.tally import Tally
from azft.data.values import did_you_mean
from azft.errors import FindingsError, UsageError
from azft.tasks import TASKS

_TABLES = {".csv", ".parquet"}
"""Files whose rows all have the same columns."""
OWN = "columns"
"""The format of rows whose columns were all named with `columns`: they are the task's already."""


def renamed(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The row with the format's names, where `names` says how the file calls them."""
    theirs = {file: name for name, file in names.items()}
    return {theirs.get(str(key), str(key)): value for key, value in row.items()}


def choose(path: Path, shown: str, format_name: str | None, task: str | None, names: Mapping[str, str]) -> Format:
    """The format that is asked for, or the one that the file shows; it must give the task."""
    if path.suffix.lower() in _TABLES and format_name != "conll":
        row = first_row(path)
        check_names(shown, names, row.data if row is not None else {})
    form = _named(format_name, task, names) if format_name else _recognised(path, shown, task, names)
    if task is not None and form.name != OWN and task not in form.tasks:
        raise UsageError(
            f"Rows of {form.name} can't become rows of {task}.", fix=f"They can become: {', '.join(form.tasks)}."
        )
    return form


def check_names(shown: str, names: Mapping[str, str], row: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a name that stands for no column of a row that has them all; an empty row has no say."""
    for theirs in names.values():
        if row and theirs not in row:
            fix = did_you_mean(theirs, tuple(map(str, row)), f"It has: {', '.join(list(row)[:12])}.")
            raise UsageError(f"{shown} has no column `{theirs}`.", fix=fix)


def _named(name: str, task: str | None, names: Mapping[str, str]) -> Format:
    return FORMATS[name] if name != OWN else _own(task, names)


def _own(task: str | None, names: Mapping[str, str]) -> Format:
    """Rows of which `names` names the task's columns: nothing but their names changes."""
    if task is None:
        raise UsageError("Which task? --from columns says what the task's columns are called.", fix="Add --task.")
    known = {column.name: KINDS[column.kind] for column in TASKS[task].columns}
    missing = [name for name in TASKS[task].form_of(names) if name not in names]
    if missing:
        fix = f"Add: {' '.join(f'--columns {name}=...' for name in missing)} ({task} has: {', '.join(known)})"
        raise UsageError(f"{task} also needs the column {missing[0]}.", fix=fix)

    def read(row: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: kind for name, kind in known.items() if name in names and row.get(name) not in (None, "")}
        return {name: row[name] if kind.is_text else value_of(row[name]) for name, kind in given.items()}

    return Format(OWN, "", (), frozenset(known), read, form=OWN)


def _recognised(path: Path, shown: str, task: str | None, names: Mapping[str, str]) -> Format:
    if path.suffix.lower() in CONLL_ENDINGS:
        return FORMATS["conll"]
    if is_nested_json(path):
        return FORMATS["squad"]
    if (problem := look_at(path)) is not None:
        tally = Tally()
        tally.add(problem, None)
        fix = "A file of tokens and tags: --from conll" if problem.code == "unknown-format" else ""
        raise FindingsError(f"{shown} can't be read.", tally.findings(shown), fix=fix)
    first = _first(path, shown)
    row = renamed(first, names)
    fitting = [form for form in FORMATS.values() if form.fits(row)]
    if fitting:
        return next((form for form in fitting if task in form.tasks), fitting[0])
    if names and task is not None:
        return _own(task, names)
    if readable := _readers([task] if task else list(TASKS), first):
        best, guessed = readable[0]
        columns = ", ".join(f"{name}: {theirs}" for name, theirs in guessed.items())
        fix = f"Name the file in the recipe, with task: {best}" + (
            f" and data.columns: {{{columns}}}" if columns else ""
        )
        by = " and ".join(name for name, _ in readable)
        raise UsageError(f"{shown} needs no converting: its columns are read as they are by {by}.", fix=f"{fix}.")
    check_names(shown, names, first)  # of rows in JSON not all need have a column: only here it is sure to be missing
    has = f"its first row has: {', '.join(list(first)[:12])}" if first else "its first row is empty"
    marks = ", ".join(f"{form.name} ({' and '.join(sorted(form.marks[0]))})" for form in FORMATS.values() if form.marks)
    raise UsageError(
        f"The format of {shown} was not recognised; {has}.",
        fix=f"Known are: {marks}. Say which with --from, and what their columns are called with --columns NAME=THEIRS.",
    )


def _first(path: Path, shown: str) -> Mapping[str, Any]:
    """The first row that can be read; `FindingsError` with what is there instead where there is none."""
    tally = Tally()
    for item in read_items(path):
        if isinstance(item, Row):
            return item.data
        tally.add(item.problem, item.line)
    if not tally.counts:
        tally.add(Problem("no-rows"), None)
    raise FindingsError(f"{shown} has no row that can be read.", tally.findings(shown))


def _readers(tasks: list[str], row: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """Tasks that read a row as it is, with the names to be given in the recipe; who reads most of it comes first."""
    found = []
    for task in tasks:
        guessed = guess_columns(task, {}, row)
        used = [column.name for column in TASKS[task].columns if column.name in row or column.name in guessed]
        if row and set(TASKS[task].form_of(used)) <= set(used):
            found.append((len(used), task, guessed))
    return [(task, guessed) for _, task, guessed in sorted(found, key=lambda item: -item[0])]
