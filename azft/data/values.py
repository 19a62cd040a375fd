"""Saying what a JSON value is, and what a misspelt name was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any


def kind_of(value: Any) -> str:
    """The JSON type of a value, with its article, as a person would say it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object", bytes: "binary data"}
    return names.get(type(value), f"a {type(value).__name__}")


def did_you_mean(word: str, candidates: tuple[str, ...], otherwise: str) -> str:
    """`Did you mean ...?` for the nearest candidate, or `otherwise`."""
    match = closest(word, candidates)
    return f"Did you mean `{match}`?" if match else otherwise


def closest(word: str, candidates: tuple[str, ...]) -> str | None:
    """The nearest candidate, or None when none is near."""
    match = difflib.get_close_matches(word.lower()[:64], candidates, n=1, cutoff=0.6)
    return match[0] if match else None


def strings_of(value: Any) -> Iterator[str]:
    """Every text in nested data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings_of(key)
            yield from strings_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_of(item)
