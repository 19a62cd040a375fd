"""Writing files so that a crash leaves the old or the new one and never a half, and hashing what is written.

Every file that azft writes goes through here: beside the target, flushed to the disk, then renamed over it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

_CHUNK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes, so that they can be hashed."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in 1 MiB pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(path: Path) -> str:
    """Hex SHA-256 over a file, or over a folder's relative names and contents (order and mtimes don't matter)."""
    if path.is_file():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path).as_posix().encode("utf-8", "surrogateescape")
        digest.update(len(name).to_bytes(8, "big") + name + bytes.fromhex(sha256_file(file)))
    return digest.hexdigest()


def fsync_folder(path: Path) -> None:
    """Make a rename inside `path` durable. A no-op where folders can't be opened (Windows)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (OSError, AttributeError):  # pragma: no cover - Windows only
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; when the block ends well, flush it and rename it over `target`.

    The block may make a file or a folder there. When it raises, whatever it made is removed and `target` is untouched.
    A folder replaces nothing but an empty folder (`OSError` otherwise): no system swaps full ones in one step. And a
    step's output folder may be a mount point, which can't be renamed over at all: write inside it, the manifest last.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    temporary = holder / target.name
    try:
        yield temporary
        for file in [temporary] if temporary.is_file() else temporary.rglob("*"):
            if file.is_file():
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
        temporary.replace(target)
        fsync_folder(target.parent)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_bytes(target: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    r"""Write a whole UTF-8 text file atomically, with `\\n` line ends on every system."""
    write_bytes(target, text.encode("utf-8"))


def write_json(target: Path, value: Any) -> None:
    """Write indented JSON with sorted keys and a final newline, atomically."""
    write_bytes(
        target, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    )


def append_line(target: Path, value: Any) -> None:
    """Append one JSON line with a single write, so that a reader never sees two half lines joined.

    A crash can leave a last line without its newline; readers take only whole lines (`read_lines`), and the next append
    ends the broken one first.
    """
    line = orjson.dumps(value) + b"\n"
    with target.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)


def read_lines(source: Path, offset: int = 0) -> tuple[list[Any], int]:
    """Whole JSON lines of `source` from byte `offset` on, and the offset after the last of them.

    Lines that are not JSON (torn by a crash, then ended) are passed over. A missing file has no lines.
    """
    try:
        with source.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    values = []
    for line in data[:end].splitlines():
        try:
            values.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            continue
    return values, offset + end
