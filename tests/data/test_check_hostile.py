"""Hostile input gives findings, in bounded memory, and never a traceback."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from azft.data.check import check_files
from azft.data.readers import read_rows
from azft.data.rows import RowChecker
from azft.data.rules import finding

GOOD = {"messages": [{"role": "user", "content": "Say it"}, {"role": "assistant", "content": "It"}]}

CHECK_IN_A_CHILD = """
import json, resource, sys
from pathlib import Path
from azft.data.check import check_files
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = check_files("chat-completion", {}, {"train": Path(sys.argv[1])}, processes=1, near=False)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps({"mib": grown, "findings": [[f.code, f.line] for f in report.findings], "rows": report.files[0].rows}))
"""


def check_in_a_child(path: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHECK_IN_A_CHILD, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=120)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_a_line_of_100_megabytes_is_a_finding_and_is_never_held(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train{suffix}"
    with path.open("wb") as file:
        good = json.dumps(GOOD).encode()
        file.write({".jsonl": good + b"\n", ".json": b"[" + good + b",", ".csv": b"messages\n"}[suffix])
        file.write(b'{"messages": "')
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n' + good + b"\n")
    answer = check_in_a_child(path)
    assert ["data-line-too-long", 1 if suffix == ".json" else 2] in answer["findings"]
    assert answer["mib"] < 120  # a line is held up to 16 MiB, several times over for a moment
    if suffix == ".jsonl":
        assert answer["rows"] == 3


def test_memory_stays_bounded_however_many_rows_and_faults(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    with path.open("w") as file:
        for number in range(30_000):
            content = "" if number % 3 else f"Question {number} " + "x" * 500
            file.write(json.dumps({"messages": [{"role": "user", "content": content}, GOOD["messages"][1]]}) + "\n")
    answer = check_in_a_child(path)
    assert answer["mib"] < 60  # and 20,000 faults


def test_a_line_just_below_the_limit_is_read(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "x" * (15 << 20)}, GOOD["messages"][1]]}
    (tmp_path / "train.jsonl").write_text(json.dumps(GOOD) + "\n" + json.dumps(row) + "\n" + json.dumps(GOOD) + "\n")
    report = check_files("chat-completion", {}, {"train": tmp_path / "train.jsonl"}, processes=1, near=False)
    assert report.files[0].rows == 3
    assert report.ok


EVIL_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(
        ["user", "assistant", "tool", "system", "text", "function", "c1", "{}", "\ud800", "\x00", "Ã©"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["role", "content", "messages", "tools", "tool_calls", "tool_call_id", "id", "type", "function",
                         "name", "arguments", "text", "weight", "from", "value", "x"]), inner, max_size=6),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=80)
@given(st.dictionaries(st.sampled_from(["messages", "tools", "conversations", "y"]), EVIL_VALUES), st.booleans())
def test_no_value_makes_the_row_check_raise(row: dict[str, Any], text_cells: bool) -> None:
    problems, normal = RowChecker("chat-completion", {}).check(row, text_cells=text_cells)
    for problem in problems:
        assert finding(problem, "f", 1).message.isprintable()
    if normal is not None:
        checker = RowChecker("chat-completion", {})
        again, same = checker.check(normal, text_cells=False)
        assert same == normal or again
        assert checker.digests(normal)[0] != 0


MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", "bot"]) | EVIL_VALUES, "content": EVIL_VALUES},
    optional={"weight": EVIL_VALUES, "tool_calls": EVIL_VALUES, "tool_call_id": EVIL_VALUES, "name": EVIL_VALUES},
)


@settings(deadline=None, max_examples=80)
@given(st.lists(MESSAGE | EVIL_VALUES, max_size=6), EVIL_VALUES)
def test_no_conversation_makes_the_row_check_raise(messages: list[Any], tools: Any) -> None:
    problems, normal = RowChecker("chat-completion", {}).check({"messages": messages, "tools": tools}, text_cells=False)
    assert problems or normal is not None


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
@settings(deadline=None, max_examples=40)
@given(data=st.binary(max_size=300))
@example(data=b'\\"')
@example(data=b'[{"a": "\\')
@example(data=b'{"messages": "\\ud83d\\ude00"}')
@example(data=b'"\r\n",\x00')
def test_no_bytes_make_the_check_or_the_reader_raise(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("bytes") / f"train{suffix}"
    path.write_bytes(data)
    report = check_files("chat-completion", {}, {"train": path}, processes=1)
    assert report.findings
    list(read_rows(path))


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_a_good_file_with_random_bytes_flipped_never_raises_and_keeps_its_line_count(
    tmp_path: Path, suffix: str
) -> None:
    rng = random.Random(3)
    text = [
        json.dumps({"messages": [{"role": "user", "content": f'Zahl {i}: é\n"x" \\'}, GOOD["messages"][1]]})
        for i in range(30)
    ]
    good = ("\n".join(text) if suffix == ".jsonl" else "[" + ",\n".join(text) + "]").encode()
    path = tmp_path / f"train{suffix}"
    for _ in range(150):
        damaged = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(damaged))
            if damaged[place] != ord("\n"):
                damaged[place] = rng.choice(b'"\\{}[],:\x00\xff\x80ab0 ')
        path.write_bytes(bytes(damaged))
        report = check_files("chat-completion", {}, {"train": path}, processes=1, near=False)
        assert all(f.line is None or 1 <= f.line <= 30 for f in report.findings)
        if suffix == ".jsonl":
            assert report.files[0].rows >= 29


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.jsonl")
    report = check_files("chat-completion", {}, {"train": tmp_path / "train.jsonl"}, processes=1)
    assert [f.code for f in report.findings if f.severity == "error"] == ["data-unreadable"]


def test_a_worker_that_dies_is_an_error_with_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from azft.data import workers
    from azft.errors import AzftError

    monkeypatch.setattr(workers.sys, "executable", "/bin/false")
    piece = workers.Piece(str(tmp_path / "x.jsonl"), "chat-completion", {}, 0, None, near=False, near_prompts=False)
    with pytest.raises(AzftError, match="ended unexpectedly"):
        workers.scan_in_processes([piece, piece], 2)
