"""Rows of one JSON array as undecoded bytes, cut out by their brackets without holding the file.

Only the array's own form is judged here; decoding and checking a row is `azft.data.rows`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from azft.data.blocks import BLOCK, MAX_LINE
from azft.data.rules import Problem
from azft.data.sources import BOM, Batch, too_long

# A whole text, a bracket or comma, or the quote of a text that goes on after the bytes at hand.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[][{},]|"', re.DOTALL)


def json_array(path: Path) -> Iterator[Batch]:
    """Batches of an array's elements, each with the line it begins on."""
    cutter = _Cutter()
    with path.open("rb") as file:
        while not cutter.done:
            # Doubling, so that a text longer than a block is looked through a few times only.
            yield cutter.cut(file.read(max(BLOCK, cutter.held)))


class _Cutter:
    """Cuts the elements out of an array that arrives in chunks, and holds the element that is under way."""

    def __init__(self) -> None:
        self.done = False
        self._data = b""
        self._scanned = 0  # offset in the data up to which tokens have been read
        self._element = 0  # offset at which the element under way begins
        self._depth = 0  # brackets open; 0 before and after the array
        self._comma = False
        self._line, self._counted = 1, 0  # the line of an offset in the data
        self._rows: list[bytes] = []
        self._lines: list[int] = []
        self._problems: list[tuple[Problem, int | None]] = []

    @property
    def held(self) -> int:
        """Bytes held."""
        return len(self._data)

    def cut(self, chunk: bytes) -> Batch:
        """The elements that are complete with this chunk; an empty chunk is the file's end."""
        self._rows, self._lines, self._problems = [], [], []
        self._data += chunk
        if self._depth or self._open(at_end=not chunk):
            self._scan()
            if self.done:
                if self._data[self._scanned :].strip():
                    self._not_json("there is more after the array's closing ]", "A .json file holds one array.")
            elif len(self._data) - self._element > MAX_LINE:
                size = len(self._data) - self._element
                self._problems.append((too_long("row", size), self._line_at(self._element)))
                self.done = True
            elif not chunk:
                self._scanned = len(self._data)
                self._not_json("the file ends inside the array", "Was it cut off? It should end in ].")
                self.done = True
            self._drop(self._element)
        return Batch(self._rows, self._lines, self._problems)

    def _open(self, *, at_end: bool) -> bool:
        """Read up to the array's [; False while only white space has come, or when something else begins."""
        if self._line == 1 and self._data.startswith(BOM):
            self._problems.append((Problem("bom"), 1))
            self._data = self._data[len(BOM) :]
        head = self._data.lstrip()
        if not head and not at_end:
            self._drop(len(self._data))
            return False
        begin = len(self._data) - len(head)
        if not head.startswith(b"["):
            found = f"`{head[:12].decode('utf-8', 'replace')}`" if head else "nothing"
            self._problems.append((Problem("not-array", {"found": found}), self._line_at(begin)))
            self.done = True
            return False
        self._depth = 1
        self._scanned = self._element = begin + 1
        return True

    def _scan(self) -> None:
        for token in _TOKEN.finditer(self._data, self._scanned):
            text = token.group()
            if text == b'"':
                self._scanned = token.start()
                return
            self._scanned = token.end()
            if text in (b"[", b"{"):
                self._depth += 1
            elif text in (b"]", b"}"):
                self._depth -= 1
            if self._depth == 0 or (self._depth == 1 and text == b","):
                self._take(token.start(), token.end())
            if self._depth == 0:
                self.done = True
                return
        self._scanned = len(self._data)

    def _take(self, end: int, following: int) -> None:
        """The element under way ends here, at a comma or at the array's ]."""
        raw = self._data[self._element : end]
        row = raw.strip()
        if row:
            self._lines.append(self._line_at(self._element + len(raw) - len(raw.lstrip())))
            self._rows.append(row)
        elif self._depth == 1 or self._comma:
            self._not_json("a comma without a row before or after it", "Remove the comma.")
        self._comma = True
        self._element = following

    def _not_json(self, reason: str, fix: str) -> None:
        self._problems.append((Problem("not-json", {"reason": reason, "fix": fix}), self._line_at(self._scanned)))

    def _line_at(self, offset: int) -> int:
        """The line of an offset, which is never less than at the call before."""
        self._line += self._data.count(b"\n", self._counted, offset)
        self._counted = max(self._counted, offset)
        return self._line

    def _drop(self, size: int) -> None:
        self._line_at(size)
        self._data = self._data[size:]
        self._scanned, self._element, self._counted = self._scanned - size, 0, self._counted - size
