"""Columns of classification data: a row's label, its several labels, the words of a text, and a tag for each of them.

The normal form of a label is text: a number becomes its digits, true and false their names. `label_number` finds it
among the labels of the data set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from azft.data.rules import Problem
from azft.data.text import text_problems
from azft.data.text_columns import check_plain
from azft.data.values import kind_of

_LABEL = "text or a whole number"


def check_label(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of one label."""
    del row
    if isinstance(value, str):
        yield from check_plain(value, column)
    elif not isinstance(value, int):
        where = f"Column `{column}`"
        yield Problem("wrong-type", {"where": where, "found": _found(value), "expected": _LABEL})


def check_labels(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of a row's list of labels; it may be empty."""
    if not isinstance(value, list):
        expected = "a list of labels"
        yield Problem("wrong-type", {"where": f"Column `{column}`", "found": kind_of(value), "expected": expected})
        return
    for label in value:
        yield from check_label(label, column, row)
    names = [label_name(label) for label in value if isinstance(label, str | int)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        yield Problem("label-twice", {"column": column, "label": twice})


def check_words(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of a list of words."""
    del row
    where = f"Column `{column}`"
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        wrong = value if not isinstance(value, list) else next(word for word in value if not isinstance(word, str))
        found = kind_of(value) if wrong is value else f"a list with {kind_of(wrong)}"
        yield Problem("wrong-type", {"where": where, "found": found, "expected": "a list of words"})
        return
    if not value:
        yield Problem("empty-text", {"column": column})
    for number, word in enumerate(value, 1):
        if not word.strip():
            yield Problem("empty-word", {"column": column, "number": number})
            return
    yield from text_problems(" ".join(value), where)


def check_tags(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of a list of tags: one for each word, and each I- after a B- or I- of its own kind."""
    if not isinstance(value, list):
        expected = "a list of tags"
        yield Problem("wrong-type", {"where": f"Column `{column}`", "found": kind_of(value), "expected": expected})
        return
    for tag in value:
        if faults := list(check_label(tag, column, row)):
            yield faults[0]
            return
    words = row.get("tokens")
    if isinstance(words, list) and len(words) != len(value):
        yield Problem("tags-length", {"column": column, "words": len(words), "tags": len(value)})
        return
    before = "O"
    for number, tag in enumerate(map(label_name, value), 1):
        if tag.startswith("I-") and before not in (tag, f"B-{tag[2:]}"):
            yield Problem("tag-order", {"column": column, "number": number, "tag": tag, "before": before})
            return
        before = tag


def label_name(value: str | int) -> str:
    """A checked label in its normal form."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def label_names(value: list[str | int]) -> list[str]:
    """Checked labels, or tags, in their normal form."""
    return [label_name(label) for label in value]


def label_number(name: str, labels: Sequence[str]) -> int | None:
    """Which of the data set's labels a normalised one is; None where it is none of them.

    It is the one of that name. Digits that are no name count from 0, so that numbers and data.labels go together.
    """
    if name in labels:
        return labels.index(name)
    number = int(name) if name.isascii() and name.isdigit() else len(labels)
    return number if number < len(labels) else None


def by_name(labels: set[str]) -> tuple[str, ...]:
    """Labels in the order of their names, or of their numbers where all are numbers."""
    if all(name.isascii() and name.isdigit() for name in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def _found(value: Any) -> str:
    return f"the fraction {value}" if isinstance(value, float) else kind_of(value)
