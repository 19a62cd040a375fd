"""The labels of a data set: what its rows or tokens can be told to be, found by reading the training rows once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from azft.data.columns import KINDS
from azft.data.label_columns import by_name
from azft.data.readers import iter_valid_rows
from azft.tasks import TASKS


class Told(NamedTuple):
    """What can be told about the rows of a data set."""

    labels: tuple[str, ...] = ()
    """By number; () for a task without labels."""
    several: bool = False
    """Whether a row may have several of them at once, or none."""


def told_of(task: str, columns: Mapping[str, str], train: Path, named: Sequence[str] = ()) -> Told:
    """The labels that the recipe names, else those of the training rows in the order of their names or numbers.

    Several may be right at once where the first row says so, by a list where others have one label.
    """
    kinds = {column.name: KINDS[column.kind] for column in TASKS[task].columns}
    if not any(kind.labels for kind in kinds.values()):
        return Told(tuple(named))
    found: set[str] = set()
    several: bool | None = None
    for row in iter_valid_rows(train, task, columns):
        for name, value in row.data.items():
            collect = kinds[name].labels
            if collect is not None:
                found.update(collect(value))
                if several is None:
                    several = kinds[name].several
        if named and several is not None:
            break
    return Told(tuple(named) or by_name(found), bool(several))
