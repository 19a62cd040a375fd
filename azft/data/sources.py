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

    `lines` are the rows' 1-based lines (for Parquet, row numbers), `problems` what is wrong with the file itself. Rows
    that are whole lines come as one `block`, and are cut apart only when somebody asks for `rows`.
    """

    def __init__(
        self,
        rows: Sequence[Any] | None,
        lines: Sequence[int],
        problems: Sequence[tuple[Problem, int | None]] = (),
        block: bytes | None = None,
    ) -> None:
        self._rows = rows
        self.lines = lines
        self.problems = problems
        self.block = block

    @property
    def rows(self) -> Sequence[Any]:
        """The rows one by one."""
        if self._rows is None:
            self._rows = (self.block or b"").split(b"\n")[: len(self.lines)]
        return self._rows


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
        count = count_lines(block)
        yield Batch(None, range(line, line + count), problems, block)
        line += count


def too_long(what: str, size: int) -> Problem:
    """The problem of a line, row or cell beyond `MAX_LINE`."""
    bytes_text = f"at least {size:,} bytes" if what != "line" else f"{size:,} bytes"
    return Problem("line-too-long", {"bytes": bytes_text, "limit": f"{MAX_LINE >> 20} MiB"})
