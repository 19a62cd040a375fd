"""The table of column kinds: how a column's values are checked, normalised, compared and, where there is one, sped up.

A task's columns name their kind (`azft.tasks`). A new kind is a new row here and a module with its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from azft.data import (
    answer_columns,
    chat,
    chat_lane,
    label_columns,
    pictures,
    preference_columns,
    text_columns,
    tool_calls,
)
from azft.data.lane import Lane, RowText
from azft.data.rules import Problem
from azft.tasks import TASKS, Column


@dataclass(frozen=True, slots=True)
class ColumnKind:
    """One kind of column.

    `check(value, column, row)` yields the problems of any value; `normalise(value)` gives a checked value its one form
    for everything downstream; `digests(normalised)` hashes the whole and what comes before the part that is learned;
    `text(normalised)` is what near-duplicates are compared by. The last two are for a first column that says by itself
    what is learned; where a task names the column that is, the row is compared as it stands (`azft.data.rows`).
    `is_text` columns are taken as they stand in a CSV cell; others hold JSON text there.
    """

    title: str
    check: Callable[[Any, str, Mapping[str, Any]], Iterator[Problem]]
    normalise: Callable[[Any], Any]
    digests: Callable[[Any], tuple[int, int]] | None = None
    text: Callable[[Any], RowText | None] | None = None
    lane: Callable[[str, Iterable[str]], Lane] | None = None
    is_text: bool = False
    labels: Callable[[Any], Iterable[str]] | None = None
    """The labels that a normalised value names; None for a kind that names none."""
    several: bool = False
    """Whether any number of them may be right about one row."""


KINDS: dict[str, ColumnKind] = {
    "messages": ColumnKind(
        title="list of messages",
        check=chat.check_messages,
        normalise=chat.normalise_messages,
        digests=chat.digests,
        text=chat.text_of,
        lane=chat_lane.ChatLane,
    ),
    "text": ColumnKind(title="text", check=text_columns.check_text, normalise=lambda text: text, is_text=True),
    "image": ColumnKind(
        title="picture in base64",
        check=pictures.check_image,
        normalise=pictures.plain_base64,
        digests=pictures.digests,
        text=lambda _picture: None,  # pictures are many to a caption, and none is near another by its base64
        is_text=True,
    ),
    "prompt": ColumnKind(
        title="text or list of messages",
        check=preference_columns.check_prompt,
        normalise=preference_columns.normalise_prompt,
        is_text=True,
    ),
    "answer": ColumnKind(
        title="text", check=preference_columns.check_answer, normalise=preference_columns.answer_text, is_text=True
    ),
    "worse-answer": ColumnKind(
        title="text",
        check=preference_columns.check_worse_answer,
        normalise=preference_columns.answer_text,
        is_text=True,
    ),
    "answers": ColumnKind(
        title="answers",
        check=answer_columns.check_answers,
        normalise=answer_columns.normalise_answers,
        is_text=True,
    ),
    "label": ColumnKind(
        title="label",
        check=label_columns.check_label,
        normalise=label_columns.label_name,
        is_text=True,
        labels=lambda label: [label],
    ),
    "labels": ColumnKind(
        title="list of labels",
        check=label_columns.check_labels,
        normalise=label_columns.label_names,
        labels=lambda labels: labels,
        several=True,
    ),
    "words": ColumnKind(title="list of words", check=label_columns.check_words, normalise=lambda words: words),
    "tags": ColumnKind(
        title="list of tags",
        check=label_columns.check_tags,
        normalise=label_columns.label_names,
        labels=lambda tags: tags,
    ),
    "tools": ColumnKind(title="list of tools", check=tool_calls.check_tools, normalise=lambda tools: tools),
}

IGNORED = {"chat-completion": {"parallel_tool_calls": bool}}
"""Columns of a task's usual file format that azft does not need: known, and of a known type."""


def columns_of(task: str) -> tuple[Column, ...]:
    """The columns of a task."""
    return TASKS[task].columns
