"""The labels of a data set: what its rows or tokens can be told to be, found by reading the training rows once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from azft.data.columns import KINDS
from azft.data.readers import iter_valid_rows
from azft.tasks import TASKS


def labels_of(task: str, columns: Mapping[str, str], train: Path) -> tuple[str, ...]:
    """Every label of the training rows, in the order of their names; () for a task without labels."""
    collectors = {column.name: KINDS[column.kind].labels for column in TASKS[task].columns}
    found: set[str] = set()
    if any(collectors.values()):
        for row in iter_valid_rows(train, task, columns):
            for name, collect in collectors.items():
                if collect is not None and name in row.data:
                    found.update(collect(row.data[name]))
    return tuple(sorted(found))
