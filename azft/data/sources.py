"""Batches of rows, and the rows of JSON lines as undecoded bytes with their line numbers.

Nothing is judged here but the file's own form; decoding and checking a row is `azft.data.rows`'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from azft.data.blocks import MAX_LINE, LongLine, read_blocks
from azft.data.json_bytes import count_lines
from azft.data.rules import Problem

BOM = b"\xef\xbb\xbf"


class Batch:
    """Some rows in order. A row is bytes (JSON text), or a dict (columns to cells), or None: reported already.

    `lines` are the rows' 1-based lines (for Parquet, row numbers), `problems` what is wrong with the file itself.
    """

    block: bytes | None = None
    """All rows in one piece, where they are whole lines."""

    def __init__(
        self,
        rows: Sequence[Any],
        lines: Sequence[int],
        problems: Sequence[tuple[Problem, int | None]] = (),
    ) -> None:
        self._rows = rows
        self._lines = lines
        self.problems = problems

    @property
    def rows(self) -> Sequence[Any]:
        """The rows one by one."""
        return self._rows

    @property
    def lines(self) -> Sequence[int]:
        """The line of each row."""
        return self._lines


class LineBatch(Batch):
    """Rows that are whole lines, the first of them line `first`. They are counted and cut apart only when asked for."""

    def __init__(self, first: int, block: bytes, problems: Sequence[tuple[Problem, int | None]]) -> None:
        super().__init__((), (), problems)
        self.block: bytes = block
        self._first = first
        self.count: int | None = None
        """How many lines there are, once somebody has counted."""

    @property
    def rows(self) -> Sequence[bytes]:
        """The lines without their newlines."""
        if not self._rows:
            self._rows = self.block.split(b"\n")[: len(self.lines)]
        return self._rows

    @property
    def lines(self) -> range:
        """The numbers of the lines."""
        if self.count is None:
            self.count = count_lines(self.block)
        return range(self._first, self._first + self.count)


def json_lines(path: Path, start: int = 0, end: int | None = None) -> Iterator[Batch]:
    """Batches of the lines that begin in a byte range; lines are counted from the range's start."""
    line = 1
    seen_crlf = False
    for piece in read_blocks(path, start, end):
        if isinstance(piece, LongLine):
            yield Batch([None], range(line, line + 1), [(too_long("line", piece.bytes), line)])
            line += 1
            continue
        problems: list[tuple[Problem, int | None]] = []
        block = piece
        if line == 1 and start == 0 and piece.startswith(BOM):
            problems.append((Problem("bom"), 1))
            block = piece[len(BOM) :]
        if not seen_crlf and b"\r" in block and b"\r\n" in block:
            seen_crlf = True
            problems.append((Problem("crlf"), line + block.count(b"\n", 0, block.index(b"\r\n"))))
        batch = LineBatch(line, block, problems)
        yield batch
        line += len(batch.lines)


def too_long(what: str, size: int) -> Problem:
    """The problem of a line, row or cell beyond `MAX_LINE`."""
    bytes_text = f"at least {size:,} bytes" if what != "line" else f"{size:,} bytes"
    return Problem("line-too-long", {"bytes": bytes_text, "limit": f"{MAX_LINE >> 20} MiB"})
