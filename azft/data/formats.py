"""The table of file formats, and a first look at a file's head before any row is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from azft.data.json_array import json_array
from azft.data.rules import Problem
from azft.data.sources import Batch, json_lines
from azft.data.tables import csv_rows, parquet_rows

FORMATS: dict[str, Callable[[Path], Iterator[Batch]]] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_array,
    ".csv": csv_rows,
    ".parquet": parquet_rows,
}
"""How a file's rows are read, by the ending of its name."""

SPLITTABLE = {".jsonl", ".ndjson"}
"""Formats of which a byte range can be read on its own."""

_PACKED = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ", "xz", "unxz"),
    (b"PK\x03\x04", "zip", "unzip"),
)
_HEAD = 4096


def look_at(path: Path) -> Problem | None:
    """Why a file can't be read at all: missing, a folder, an unknown format, compressed, UTF-16. None when it can."""
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            inside = sorted(p.name for p in path.iterdir() if p.suffix.lower() in FORMATS)[:3]
            fix = f"Name a file in it, such as {inside[0]}." if inside else "Name a file of rows."
            return Problem("unreadable", {"reason": "it is a folder", "fix": fix})
        if path.exists() and not path.is_file():
            return Problem(
                "unreadable", {"reason": "it is not a plain file", "fix": "Copy the rows into a file first."}
            )
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        return Problem("not-found")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Problem("unreadable", {"reason": reason, "fix": "Check the path and the permissions."})
    if suffix == ".parquet":
        return None
    for magic, kind, command in _PACKED:
        if head.startswith(magic):
            return Problem("compressed", {"kind": kind, "command": f"{command} {path.name}"})
    if suffix not in FORMATS:
        return Problem("unknown-format", {"suffix": suffix or path.name})
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")) or _every_other_byte_is_nul(head):
        return Problem("utf16")
    return None


def read_batches(path: Path) -> Iterator[Batch]:
    """Batches of rows of a file whose head has been looked at."""
    return FORMATS[path.suffix.lower()](path)


def _every_other_byte_is_nul(head: bytes) -> bool:
    """ASCII text in UTF-16 without a byte order mark."""
    if len(head) < 8:
        return False
    return any(half.count(0) > 0.8 * len(half) for half in (head[0::2], head[1::2]))
