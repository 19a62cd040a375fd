"""Files of every format, and files that are not what they say: a finding that names the cause, never a traceback."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from azft.data.check import DataReport, check_files

QUESTION = {"role": "user", "content": "Say it"}


def chat(number: int) -> dict[str, Any]:
    return {"messages": [dict(QUESTION), {"role": "assistant", "content": f"Answer {number}"}]}


def text_of(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def check(path: Path) -> DataReport:
    return check_files("chat-completion", {}, {"train": path}, processes=1, near=False)


def codes(report: DataReport) -> list[tuple[str, int | None]]:
    ignored = {"data-few-rows", "data-lengths-unchecked", "data-conflicting-answers"}
    return [(f.code.removeprefix("data-"), f.line) for f in report.findings if f.code not in ignored]


def test_a_missing_file_a_folder_and_a_strange_ending_are_named(tmp_path: Path) -> None:
    assert codes(check(tmp_path / "none.jsonl")) == [("not-found", None)]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "train.jsonl").write_text("{}")
    report = check(tmp_path / "folder")
    assert codes(report) == [("unreadable", None)]
    assert "train.jsonl" in report.findings[0].fix
    (tmp_path / "rows.txt").write_text(text_of(chat(1)))
    assert codes(check(tmp_path / "rows.txt")) == [("unknown-format", None)]
    assert not report.ok


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.jsonl").write_bytes(content)
    report = check(tmp_path / "train.jsonl")
    assert ("no-rows", None) in codes(report)
    assert report.files[0].rows == 0


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_is_recognised_with_and_without_its_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "train.jsonl").write_bytes(text_of(chat(1), chat(2)).encode(encoding))
    assert codes(check(tmp_path / "train.jsonl")) == [("utf16", None)]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
@pytest.mark.parametrize("cut", [None, 30])
def test_a_compressed_file_is_recognised_whole_or_cut_off(tmp_path: Path, pack: Any, cut: int | None) -> None:
    (tmp_path / "train.jsonl").write_bytes(pack(text_of(chat(1)).encode())[:cut])
    assert codes(check(tmp_path / "train.jsonl")) == [("compressed", None)]


def test_a_byte_order_mark_and_windows_line_ends_are_read_past(tmp_path: Path) -> None:
    lines = text_of(chat(1), chat(2)).replace("\n", "\r\n")
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    report = check(tmp_path / "train.jsonl")
    assert codes(report) == [("bom", 1), ("crlf", 1)]
    assert report.files[0].rows == 2


def test_the_last_line_needs_no_newline_and_a_cut_one_is_found(tmp_path: Path) -> None:
    text = text_of(chat(1), chat(2), chat(3)).rstrip("\n")
    (tmp_path / "train.jsonl").write_text(text)
    assert codes(check(tmp_path / "train.jsonl")) == []
    (tmp_path / "train.jsonl").write_text(text[:-10])
    report = check(tmp_path / "train.jsonl")
    assert codes(report) == [("not-json", 3)]
    assert "cut off" in report.findings[0].fix


def test_rows_pretty_printed_over_several_lines_are_not_json_lines(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(chat(1), indent=1) + "\n" + text_of(chat(2)))
    report = check(tmp_path / "train.jsonl")
    assert not report.ok
    assert report.findings[0].line == 1


def test_two_rows_on_a_line_are_found_even_beside_one_on_two_lines(tmp_path: Path) -> None:
    one = json.dumps(chat(1))
    (tmp_path / "train.jsonl").write_text(one + one + "\n" + one.replace(": ", ":\n", 1) + "\n")
    assert [line for _, line in codes(check(tmp_path / "train.jsonl"))] == [1, 2, 3]


def test_a_json_array_is_read_with_the_lines_of_its_rows(tmp_path: Path) -> None:
    rows = [chat(i) for i in range(3)]
    rows[1]["messages"][0]["role"] = "human"
    (tmp_path / "train.json").write_text(json.dumps(rows, indent=1))
    report = check(tmp_path / "train.json")
    lines = json.dumps(rows, indent=1).splitlines()
    starts = [number for number, line in enumerate(lines, 1) if line == " {"]
    assert codes(report) == [("unknown-role", starts[1])]
    assert report.files[0].rows == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", [("no-rows", None)]),
        (text_of(chat(1)), [("not-array", 1)]),
        ("  ", [("not-array", 1)]),
        ("[" + text_of(chat(1)) + ",]", [("not-json", 2)]),
        ("[" + text_of(chat(1)) + ",\n" + text_of(chat(2)), [("not-json", 4)]),
        ("[" + text_of(chat(1)) + "] trailing", [("not-json", 2)]),
        ('[{"messages": "unterminated', [("not-json", 1)]),
        ("[" * 100_000, [("not-json", 1)]),
        ("[1, null, " + json.dumps(chat(1)) + "]", [("not-object", 1), ("not-object", 1)]),
    ],
)
def test_a_damaged_json_array_says_where(tmp_path: Path, text: str, expected: list[Any]) -> None:
    (tmp_path / "train.json").write_text(text)
    assert sorted(codes(check(tmp_path / "train.json")), key=str) == sorted(expected, key=str)


def write_csv(path: Path, rows: list[list[str]], encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)
    return path


def test_csv_cells_hold_json_text(tmp_path: Path) -> None:
    good = json.dumps(chat(1)["messages"], indent=1)
    tools = json.dumps([{"type": "function", "function": {"name": "f"}}])
    rows = [["messages", "tools"], [good, ""], ["not json", ""], [good.replace("Say it", "Do it"), tools]]
    report = check(write_csv(tmp_path / "train.csv", rows))
    assert codes(report) == [("cell-not-json", 2 + len(good.splitlines()))]
    assert report.files[0].rows == 3


def test_csv_faults_are_found(tmp_path: Path) -> None:
    good = json.dumps(chat(1)["messages"])
    assert codes(check(write_csv(tmp_path / "a.csv", [["messages", "messages"], [good, good]])))[0] == ("csv-header", 1)
    assert codes(check(write_csv(tmp_path / "b.csv", [["messages", ""], [good, good]])))[0] == ("csv-header", 1)
    assert codes(check(write_csv(tmp_path / "c.csv", [["messages"], [good, "x"], [good]]))) == [("csv-width", 2)]
    assert codes(check(write_csv(tmp_path / "d.csv", [["text"], [good]]))) == [("missing-column", 2)]
    (tmp_path / "e.csv").write_text('messages\n"never closed\n' + "x\n" * 10)
    assert codes(check(tmp_path / "e.csv"))[0] == ("csv-broken", 2)
    latin = write_csv(tmp_path / "f.csv", [["messages"], [good.replace("Say", "Café")], [good]], "latin-1")
    latin.write_bytes(latin.read_bytes().replace(b"\\u00e9", b"\xe9"))
    assert codes(check(latin)) == [("not-utf8", 2)]


@pytest.mark.parametrize("task", ["text-classification", "translation", "question-answering"])
def test_a_csv_file_in_another_encoding_is_findings_with_line_and_byte_in_every_task(tmp_path: Path, task: str) -> None:
    columns = {"text-classification": b"text,label", "translation": b"source,target"}
    header = columns.get(task, b"question,answers") + b"\n"
    rows = [b"one,x\n", b"Gr\xfc\xdfe,y\n", b'"two\nlines \xe9",x\n', b"three,y\n"]
    (tmp_path / "train.csv").write_bytes(header + b"".join(rows))
    report = check_files(task, {}, {"train": tmp_path / "train.csv"}, processes=1)
    found = [f for f in report.findings if f.severity == "error"]
    assert [(f.code, f.line) for f in found] == [("data-not-utf8", 3), ("data-not-utf8", 5)]
    assert found[0].message == "Byte 3 (0xFC) of the line is not UTF-8."
    assert report.files[0].rows == 2
    (tmp_path / "train.csv").write_bytes(header.replace(b",", b"\xe9,") + b"".join(rows))
    report = check_files(task, {}, {"train": tmp_path / "train.csv"}, processes=1)
    assert [f.line for f in report.findings if f.code == "data-not-utf8"] == [1]


def test_one_of_a_thing_is_told_as_one_and_a_table_that_can_t_be_read_lacks_no_rows(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na\nb,x\n")
    (tmp_path / "validation.csv").write_text("text,label\nc,y\n")
    files = {role: tmp_path / f"{role}.csv" for role in ("train", "validation")}
    told = [f.message for f in check_files("text-classification", {}, files, processes=1).findings]
    assert "The file has only 1 row; Azure's fine-tuning service refuses fewer than 10." in told
    assert "The row has 1 cell, the header has 2." in told
    assert "The label `y` is in no training row, but in 1 row here, this one first." in told
    (tmp_path / "train.csv").write_text("text;label\na;x\n")
    report = check_files("text-classification", {}, {"train": tmp_path / "train.csv"}, processes=1)
    assert [f.code for f in report.findings if f.severity != "info"] == ["data-csv-separator"]


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_a_csv_file_with_another_separator_is_told_so(tmp_path: Path, mark: str, name: str) -> None:
    (tmp_path / "train.csv").write_text(f'text{mark}label\n"a{mark} b"{mark}x\nc{mark}y\n')
    report = check_files("text-classification", {}, {"train": tmp_path / "train.csv"}, processes=1)
    (found,) = [f for f in report.findings if f.severity == "error"]
    assert (found.code, found.line) == ("data-csv-separator", 1)
    assert name in found.message
    assert "commas" in found.fix


def test_a_csv_cell_of_ten_megabytes_is_read_and_one_of_twenty_is_a_finding(tmp_path: Path) -> None:
    for size, expected in ((10, []), (20, ["csv-broken", "line-too-long"])):
        row = chat(1)
        row["messages"][0]["content"] = "x" * (size << 20)
        report = check(write_csv(tmp_path / "train.csv", [["messages"], [json.dumps(row["messages"])]]))
        assert all(code in expected for code, _ in codes(report) if code != "no-rows")
        assert report.ok == (not expected)


def test_parquet_holds_native_lists_or_json_text(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [chat(1), chat(2), {"messages": [QUESTION]}]
    rows[1]["messages"][1]["weight"] = 1
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "native.parquet")
    assert codes(check(tmp_path / "native.parquet")) == [("no-assistant", 3)]
    texts = [{"messages": json.dumps(row["messages"])} for row in rows]
    parquet.write_table(pa.Table.from_pylist(texts), tmp_path / "text.parquet")
    assert codes(check(tmp_path / "text.parquet")) == [("no-assistant", 3)]


def test_a_damaged_parquet_file_is_a_finding(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(
        pa.Table.from_pylist([chat(i) for i in range(2000)]), tmp_path / "good.parquet", compression="none"
    )
    good = (tmp_path / "good.parquet").read_bytes()
    damaged = [b"", b"PAR1", good[:-20], good[: len(good) // 2], b"\0" * 1000, json.dumps(chat(1)).encode()]
    damaged += [good[:400] + b"\xff" * 300 + good[700:]]
    for number, content in enumerate(damaged):
        (tmp_path / f"{number}.parquet").write_bytes(content)
        assert any(code == "parquet-broken" for code, _ in codes(check(tmp_path / f"{number}.parquet"))), number


def test_summaries_carry_rows_bytes_and_hash(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(text_of(chat(1), chat(2)))
    summary = check(tmp_path / "train.jsonl").files[0]
    assert (summary.role, summary.rows, summary.bytes) == ("train", 2, (tmp_path / "train.jsonl").stat().st_size)
    assert len(summary.sha256) == 64
    assert json.loads(json.dumps(summary.to_dict()))["path"].endswith("train.jsonl")
