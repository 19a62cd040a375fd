"""Whole lines of a file in blocks of half a MiB, in bounded memory however long a line is.

Blocks are the unit of all fast work on bytes. A byte range of a file can be read on its own: a line belongs to the
range in which it begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 19
"""Bytes read at once: a block and what is made of it stay in a core's cache."""
MAX_LINE = 16 << 20
"""Longest line, JSON row or CSV cell that is read, in bytes; a longer one is a finding and is passed over."""


@dataclass(frozen=True, slots=True)
class LongLine:
    """Stands in a stream of blocks for one line longer than `MAX_LINE`; `bytes` is its length without the newline."""

    bytes: int


def read_blocks(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes | LongLine]:
    """Blocks of whole lines that begin in bytes [start, end) of the file. The last line may lack its newline."""
    with path.open("rb") as file:
        position = start
        if start:
            # The line that is under way at `start` belongs to the range before, unless it ends right there.
            file.seek(start - 1)
            position = start - 1 + _skip_line(file)
        limit = float("inf") if end is None else end
        size = BLOCK
        while position < limit:
            # The rest of a line that is cut by the block's end is read again, which is cheaper than carrying it along.
            file.seek(position)
            data = file.read(size)
            cut = data.rfind(b"\n") + 1
            if not cut:
                if len(data) > MAX_LINE:
                    file.seek(position)
                    length = _skip_line(file)
                    file.seek(position + length - 1)
                    yield LongLine(length - (file.read(1) == b"\n"))
                    position += length
                    size = BLOCK
                elif len(data) < size:  # the file's end
                    if data:
                        yield data
                    return
                else:
                    size = min(2 * size, MAX_LINE + 1)
                continue
            if position + cut >= limit:
                # The range's last line is the one with byte limit - 1 in it, or the one that ends there.
                yield data[: data.find(b"\n", int(limit) - 1 - position) + 1]
                return
            yield data[:cut]
            position += cut
            size = BLOCK


def _skip_line(file: BinaryIO) -> int:
    """Bytes up to and with the next newline, read without holding them; the file's rest when there is none."""
    skipped = 0
    while piece := file.readline(BLOCK):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped
