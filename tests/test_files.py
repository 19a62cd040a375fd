"""Writing: a crash leaves the old or the new file and never a half; lines survive torn writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from azft.files import (
    append_line,
    atomic_path,
    canonical_json,
    read_lines,
    sha256_tree,
    write_bytes,
    write_json,
    write_text,
)

CRASHING_WRITER = """
import os, sys
from pathlib import Path
from azft import files

target, crash_at = Path(sys.argv[1]), int(sys.argv[2])
calls = 0

def counted(function):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == crash_at:
            os._exit(9)  # as kill -9 would: no finally block runs
        return function(*args, **kwargs)
    return call

Path.replace, files.os.fsync = counted(Path.replace), counted(os.fsync)
files.write_bytes(target, b"new" * 100_000)
"""


@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_a_crash_at_any_point_of_a_write_leaves_the_old_or_the_new_bytes(tmp_path: Path, crash_at: int) -> None:
    target = tmp_path / "file"
    write_bytes(target, b"old")
    result = subprocess.run([sys.executable, "-c", CRASHING_WRITER, str(target), str(crash_at)], check=False)
    assert result.returncode == 9
    assert target.read_bytes() in {b"old", b"new" * 100_000}


def test_a_write_that_raises_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_appears_whole_and_never_replaces_a_full_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    with pytest.raises(OSError, match=r".*"), atomic_path(target) as temporary:
        temporary.mkdir()
    assert (target / "a").read_text() == "1"


def test_a_torn_last_line_is_passed_over_and_the_next_append_starts_a_new_line(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    append_line(log, {"step": 1})
    with log.open("ab") as file:
        file.write(b'{"step": 2, "lo')  # the process died here
    assert read_lines(log)[0] == [{"step": 1}]
    append_line(log, {"step": 3})
    assert read_lines(log)[0] == [{"step": 1}, {"step": 3}]


def test_reading_by_offset_gives_each_line_once(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    offset, seen = 0, []
    for step in range(5):
        append_line(log, step)
        lines, offset = read_lines(log, offset)
        seen += lines
    assert seen == [0, 1, 2, 3, 4]
    assert read_lines(tmp_path / "absent") == ([], 0)


def test_tree_hashes_depend_on_names_and_contents_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, order in ((one, ("a", "b")), (two, ("b", "a"))):
        (folder / "sub").mkdir(parents=True)
        for name in order:
            (folder / "sub" / name).write_text(name)
    assert sha256_tree(one) == sha256_tree(two)
    (two / "sub" / "a").rename(two / "sub" / "c")
    assert sha256_tree(one) != sha256_tree(two)


def test_equal_values_have_equal_canonical_bytes(tmp_path: Path) -> None:
    assert canonical_json({"b": 1, "a": [1, 2]}) == canonical_json({"a": [1, 2], "b": 1})
    write_json(tmp_path / "x.json", {"b": 1, "a": 2})
    assert (tmp_path / "x.json").read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
