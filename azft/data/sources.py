"""Rows of JSON lines and JSON arrays as undecoded bytes, in batches with their line numbers.

Nothing is judged here but the file's own form; decoding and checking a row is `azft.data.rows`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from azft.data.blocks import BLOCK, MAX_LINE, LongLine, read_blocks
from azft.data.json_bytes import count_lines
from azft.data.rules import Problem

BOM = b"\xef\xbb\xbf"


class Batch:
    """Some rows in order. A row is bytes (JSON text), or a dict (columns to cells), or None: reported already.

    `lines` are the rows' 1-based lines (for Parquet, row numbers), `problems` what is wrong with the file itself. Rows that
    are whole lines come as one `block`, and are cut apart only when somebody asks for `rows`.
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
    for block in read_blocks(path, start, end):
        if isinstance(block, LongLine):
            yield Batch([None], range(line, line + 1), [(too_long("line", block.bytes), line)])
            line += 1
            continue
        problems: list[tuple[Problem, int | None]] = []
        if line == 1 and start == 0 and block.startswith(BOM):
            problems.append((Problem("bom"), 1))
            block = block[len(BOM) :]
        if not seen_crlf and b"\r" in block and b"\r\n" in block:
            seen_crlf = True
            problems.append((Problem("crlf"), line + block.count(b"\n", 0, block.index(b"\r\n"))))
        count = count_lines(block)
        yield Batch(None, range(line, line + count), problems, block)
        line += count


_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[][{},]|"', re.DOTALL)
_OPEN, _CLOSE = b"[{", b"]}"


def json_array(path: Path) -> Iterator[Batch]:
    """Batches of the elements of one JSON array, cut out by their brackets without holding the file."""
    pending = b""
    pending_line = 1
    scanned = depth = 0
    began = commas = False
    element_start: int | None = None
    with path.open("rb") as file:
        while True:
            chunk = file.read(max(BLOCK, len(pending)))  # doubling, so that a long text is looked through a few times only
            data = pending + chunk
            rows: list[bytes] = []
            lines: list[int] = []
            problems: list[tuple[Problem, int | None]] = []
            if not began:
                if data.startswith(BOM):
                    problems.append((Problem("bom"), 1))
                    data = data[len(BOM) :]
                head = data.lstrip()
                if not head and chunk:
                    pending = data[-1:]  # white space only so far
                    pending_line += data.count(b"\n", 0, len(data) - 1)
                    continue
                if not head.startswith(b"["):
                    yield Batch([], [], [*problems, (Problem("not-array", {"found": _first(head)}), pending_line)])
                    return
                began, depth = True, 1
                scanned = len(data) - len(head) + 1
                element_start = scanned
            counted, line = 0, pending_line

            def line_at(offset: int) -> int:
                nonlocal counted, line
                line += data.count(b"\n", counted, offset)  # noqa: B023 - called within this turn of the loop only
                counted = offset
                return line

            done = False
            keep_from = scanned
            for token in _TOKEN.finditer(data, scanned):
                text = token.group()
                if text == b'"':  # a string that goes on after this block
                    keep_from = token.start()
                    break
                keep_from = token.end()
                if text in (b"[", b"{"):
                    depth += 1
                elif text in (b"]", b"}"):
                    depth -= 1
                if depth == 0 or (depth == 1 and text == b","):
                    start = element_start or 0
                    raw = data[start : token.start()]
                    lead = len(raw) - len(raw.lstrip())
                    if raw.strip():
                        rows.append(raw.strip())
                        lines.append(line_at(start + lead))
                    elif depth == 1 or commas:
                        values = {"reason": "a comma without a row before or after it", "fix": "Remove the comma."}
                        problems.append((Problem("not-json", values), line_at(token.start())))
                    commas = True
                    element_start = token.end()
                if depth == 0:
                    done = True
                    break
            else:
                keep_from = max(keep_from, len(data))
            if done:
                rest = data[keep_from:].strip()
                if rest:
                    reason = {"reason": "there is more after the array's closing ]", "fix": "A .json file holds one array."}
                    problems.append((Problem("not-json", reason), line_at(keep_from)))
                yield Batch(rows, lines, problems)
                return
            start = element_start or 0
            if len(data) - start > MAX_LINE:
                problems.append((too_long("row", len(data) - start), line_at(start)))
                yield Batch(rows, lines, problems)
                return
            if not chunk:
                reason = {"reason": "the file ends inside the array", "fix": "Was it cut off? It should end in ]."}
                problems.append((Problem("not-json", reason), line_at(len(data))))
                yield Batch(rows, lines, problems)
                return
            if rows or problems:
                yield Batch(rows, lines, problems)
            pending_line = line_at(start)
            pending, scanned, element_start = data[start:], keep_from - start, 0


def too_long(what: str, size: int) -> Problem:
    """The problem of a line, row or cell beyond `MAX_LINE`."""
    bytes_text = f"at least {size:,} bytes" if what != "line" else f"{size:,} bytes"
    return Problem("line-too-long", {"bytes": bytes_text, "limit": f"{MAX_LINE >> 20} MiB"})


def _first(head: bytes) -> str:
    return f"`{head[:12].decode('utf-8', 'replace')}`" if head else "nothing"
