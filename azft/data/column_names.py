"""Which column of a file is which of the task's: what the recipe says, else a guess where only one is possible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from azft.data.readers import first_row
from azft.data.rules import Problem, finding
from azft.findings import Finding
from azft.tasks import TASKS


def resolve_columns(task: str, columns: Mapping[str, str], train: Path) -> tuple[dict[str, str], list[Finding]]:
    """The task's column to the file's, where they differ, by the first row of the training file; guesses are said."""
    first = first_row(train)
    guessed = {} if first is None else guess_columns(task, columns, first.data)
    if not guessed:
        return dict(columns), []
    shown = ", ".join(f"{name}: {theirs}" for name, theirs in guessed.items())
    return {**columns, **guessed}, [finding(Problem("columns-guessed", {"columns": shown}), str(train), None)]


def guess_columns(task: str, columns: Mapping[str, str], given: Iterable[str]) -> dict[str, str]:
    """Columns that a row has under another name that is usual for them; {} when it needs none or none is sure.

    A guess is only made for columns of a form that the row then has whole, when one name alone is possible for each,
    and never against the recipe or for a column that the row has under its own name.
    """
    row = TASKS[task]
    there = {str(name) for name in given}
    forms = row.forms or (row.form_of(()),)
    names = {column.name: columns.get(column.name, column.name) for column in row.columns}
    if any(all(names[name] in there for name in form) for form in forms):
        forms = (tuple(name for form in forms for name in form if names[name] in there),)
    taken = set(names.values()) & there
    for form in forms:
        guesses = {}
        for column in row.columns:
            if names[column.name] in there or column.name in columns:
                continue
            if column.name not in form and any(column.name in other for other in row.forms):
                continue  # of another form
            fitting = [alias for alias in column.aliases if alias in there - taken]
            if len(fitting) == 1:
                guesses[column.name] = fitting[0]
        unique = len(set(guesses.values())) == len(guesses)
        if guesses and unique and all(names[name] in there or name in guesses for name in form):
            return guesses
    return {}
