"""Columns that hold one text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from azft.data.rules import Problem
from azft.data.text import text_problems
from azft.data.values import kind_of


def check_text(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of one text."""
    del row
    where = f"Column `{column}`"
    if not isinstance(value, str):
        yield Problem("wrong-type", {"where": where, "found": kind_of(value), "expected": "text"})
    elif not value.strip():
        yield Problem("empty-text", {"column": column})
    else:
        yield from text_problems(value, where)
