"""Rows come out of every format alike, in one normal form, and a broken one stops the reading with its line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from azft.data.readers import Row, iter_valid_rows, read_rows
from azft.errors import FindingsError
from azft.findings import Finding

USER = {"role": "user", "content": "Say it"}
ROWS: list[dict[str, Any]] = [
    {"messages": [USER, {"role": "assistant", "content": "It"}]},
    {"messages": [USER, {"role": "assistant", "content": "It", "weight": 1}]},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    suffix = path.suffix
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({key: json.dumps(value) for key, value in row.items()} for row in rows)
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"train{suffix}", ROWS)
    assert [row.data for row in iter_valid_rows(path, "chat-completion", {})] == ROWS


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_read_rows_gives_rows_as_they_stand(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"train{suffix}", [{"text": "a", "label": 1}, {"text": "b", "label": 2}])
    rows = list(read_rows(path))
    assert [row.data for row in rows if isinstance(row, Row)] == [{"text": "a", "label": 1}, {"text": "b", "label": 2}]


def test_valid_rows_are_renamed_and_put_into_their_normal_form(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "it"}], "name": None},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    ]  # fmt: skip
    path = write(tmp_path / "train.jsonl", [{"dialog": messages, "id": 5, "tools": None}])
    (row,) = iter_valid_rows(path, "chat-completion", {"messages": "dialog"})
    assert row.line == 1
    assert list(row.data) == ["messages"]
    assert row.data["messages"][0] == USER
    assert row.data["messages"][1]["content"] == ""
    assert row.data["messages"][1]["tool_calls"] == messages[1]["tool_calls"]


def test_the_first_bad_row_stops_the_reading_and_warnings_do_not(tmp_path: Path) -> None:
    late_system = {"messages": [USER, {"role": "system", "content": "x"}, {"role": "assistant", "content": "It"}]}
    path = write(tmp_path / "train.jsonl", [late_system, *ROWS, {"messages": []}])
    path.write_text("\n" + path.read_text())
    rows = iter_valid_rows(path, "chat-completion", {})
    assert [next(rows).line for _ in range(3)] == [2, 3, 4]
    with pytest.raises(FindingsError, match=r"train.jsonl:5: The list of messages is empty") as caught:
        next(rows)
    assert caught.value.findings[0].code == "data-no-messages"


def test_read_rows_yields_findings_in_place_of_broken_rows(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"a": 1}\nnot json\n[1]\n\n{"a": 2}')
    kinds = [
        (item.code if isinstance(item, Finding) else item.data, item.line)
        for item in read_rows(tmp_path / "train.jsonl")
    ]
    assert kinds == [({"a": 1}, 1), ("data-not-json", 2), ("data-not-object", 3), ("data-empty-line", 4), ({"a": 2}, 5)]


def test_a_file_that_can_not_be_read_is_a_finding_or_an_error(tmp_path: Path) -> None:
    (item,) = read_rows(tmp_path / "none.jsonl")
    assert isinstance(item, Finding)
    assert item.code == "data-not-found"
    with pytest.raises(FindingsError):
        list(iter_valid_rows(tmp_path / "none.jsonl", "chat-completion", {}))
