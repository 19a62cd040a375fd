"""Rows that name pictures in a folder, with their captions; `azft.data.foreign_files` brings the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from azft.data.foreign_chat import NotConvertibleError
from azft.data.values import kind_of

NAME = "file_name"
CAPTIONS = ("text", "caption", "prompt", "description")


def read_picture(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its picture in `file_name` and one caption, as the task has it."""
    captions = [name for name in CAPTIONS if row.get(name) is not None]
    for name in (NAME, *captions):
        if not isinstance(row.get(name), str):
            raise NotConvertibleError(f"`{name}` is {kind_of(row.get(name))}, not text", "Write it as text.")
    if len(captions) != 1:
        raise NotConvertibleError(
            f"it has {len(captions)} of the columns {', '.join(CAPTIONS)}",
            "Name the one that holds the caption: --columns text=COLUMN",
        )
    return {"image": row[NAME], "text": row[captions[0]]}
