"""Columns that hold the answers to a question: SQuAD's {text, answer_start}, or one answer as plain text.

The normal form is a list of [text, first character in the context or None], several where each of them is right, none
where the context has no answer (SQuAD 2.0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from azft.data.rules import Problem
from azft.data.text_columns import check_plain
from azft.data.values import kind_of

EXPECTED = 'text, a list of texts, or {"text": [...], "answer_start": [...]}'


def check_answers(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of a question's answers."""
    texts, starts = _parts(value)
    if texts is None or not all(isinstance(text, str) for text in texts):
        yield Problem("wrong-type", {"where": f"Column `{column}`", "found": _found(value), "expected": EXPECTED})
        return
    for text in texts:
        yield from check_plain(text, column)
    if starts is None:
        return
    if len(starts) != len(texts) or not all(type(start) is int for start in starts):
        yield Problem("answer-starts", {"column": column, "texts": len(texts)})
        return
    context = row.get("context")
    if isinstance(context, str):
        for text, start in zip(texts, starts, strict=True):
            if start < 0 or context[start : start + len(text)] != text:
                yield Problem("answer-elsewhere", {"column": column, "answer": text, "start": start})


def normalise_answers(value: Any) -> list[list[Any]]:
    """Checked answers as [text, first character or None] each."""
    texts, starts = _parts(value)
    assert texts is not None
    return [[text, start] for text, start in zip(texts, starts or [None] * len(texts), strict=True)]


def _parts(value: Any) -> tuple[list[Any] | None, list[Any] | None]:
    """Texts and starts; None for texts where `value` is neither form, for starts where they are not given."""
    if isinstance(value, str):
        return [value], None
    if isinstance(value, list):
        return value, None
    if not isinstance(value, dict):
        return None, None
    texts, starts = value.get("text"), value.get("answer_start")
    if isinstance(texts, str):
        texts, starts = [texts], None if starts is None else [starts]
    good = isinstance(texts, list) and (starts is None or isinstance(starts, list))
    return (texts, starts) if good else (None, None)


def _found(value: Any) -> str:
    return kind_of(value) if not isinstance(value, dict) else "an object without a list of texts"
