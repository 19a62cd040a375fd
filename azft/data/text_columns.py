"""Columns that hold one text, and what is asked of a text wherever in a column it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from azft.data.rules import Problem
from azft.data.text import text_problems
from azft.data.values import kind_of


def check_text(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of one text."""
    del row
    if isinstance(value, str):
        yield from check_plain(value, column)
    else:
        where = f"Column `{column}`"
        yield Problem("wrong-type", {"where": where, "found": kind_of(value), "expected": "text"})


def check_plain(text: str, column: str) -> Iterator[Problem]:
    """Problems of a text that stands in a column: there is nothing in it, or something that is no text."""
    if text.strip():
        yield from text_problems(text, f"Column `{column}`")
    else:
        yield Problem("empty-text", {"column": column})
