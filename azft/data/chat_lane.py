"""The fast lane for plain conversations: msgspec proves a block's structure in C, numpy its order and its hashes.

A row that is anything but plain and good (tool calls, weights, text parts, any fault) leaves the lane and is read again by
`azft.data.rows`, which says why. Python runs a few times a block, not a few times a row; benchmarks/check.py measures it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from azft.data.json_bytes import BlockFacts, look_at_block, structural_quotes
from azft.data.lane import LaneResult
from azft.data.row_hash import hash_rows
from azft.data.text import CONTROL, text_problems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False, tag_field="role"):
    content: _Text


class _System(_Turn, tag="system"):
    pass


class _User(_Turn, tag="user"):
    pass


class _Assistant(_Turn, tag="assistant"):
    pass


_ROLES: dict[type[_Turn], int] = {_System: 0, _User: 1, _Assistant: 2}
_QUOTES_ROW, _QUOTES_MESSAGE = 2, 8
"""Structural quotes of {"messages": [...]}, and of {"role": "...", "content": "..."}: more means a key given twice."""
_content, _messages = attrgetter("content"), attrgetter("messages")


class ChatLane:
    """Reads rows that have `column` and nothing else but the `ignored` columns, which may hold anything."""

    def __init__(self, column: str, ignored: Iterable[str] = ()) -> None:
        self.ignored = frozenset(ignored)
        fields: list[Any] = [("messages", list[_System | _User | _Assistant])]
        names = {"messages": column}
        for number, name in enumerate(sorted(self.ignored)):
            fields.append((f"ignored{number}", msgspec.Raw, msgspec.Raw(b"")))
            names[f"ignored{number}"] = name
        row = msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=True, gc=False)
        self._decoder = msgspec.json.Decoder(row)
        self._key = msgspec.json.encode(column)

    def read_block(self, block: bytes, *, texts: bool) -> LaneResult:
        """Read whole lines; see `lane.Lane`."""
        facts = look_at_block(block)
        rows: list[Any] | None = None
        if facts.lines_are_objects:
            try:
                rows = self._decoder.decode_lines(block)
            except (ValueError, RecursionError):
                rows = None
        if rows is None or len(rows) != facts.lines:
            lines = block.split(b"\n")
            rows = [self._decode(line) for line in lines[: facts.lines]]
        result = self._judge(rows, unicode=facts.maybe_unicode, control=facts.maybe_control, texts=texts)
        self._leave_keys_given_twice(block, facts, rows, result)
        return result

    def _leave_keys_given_twice(self, block: bytes, facts: BlockFacts, rows: list[Any], result: LaneResult) -> None:
        """A decoder takes the last of two equal keys without a word; but the other one's quotes stand in the block."""
        if self.ignored:
            if block.count(self._key) != facts.lines:
                lines = block.split(b"\n")[: facts.lines]
                result.leave(index for index, line in enumerate(lines) if line.count(self._key) != 1)
            return
        expected = _quotes(rows) if (result.whole != 0).all() else -1
        if facts.quotes == expected:
            return
        for index, line in enumerate(block.split(b"\n")[: facts.lines]):
            if result.whole[index] and _has_other_quotes(line, _quotes(rows[index : index + 1])):
                result.leave([index])

    def _decode(self, line: bytes) -> Any:
        try:
            return self._decoder.decode(line)
        except (ValueError, RecursionError):
            return None

    def _judge(self, rows: list[Any], *, unicode: bool, control: bool, texts: bool) -> LaneResult:
        import numpy as np

        result = LaneResult.of(len(rows), texts)
        kept = [index for index, row in enumerate(rows) if row is not None and row.messages]
        if not kept:
            return result
        conversations = list(map(_messages, rows if len(kept) == len(rows) else [rows[index] for index in kept]))
        flat = list(chain.from_iterable(conversations))
        contents = list(map(_content, flat))
        roles = np.frombuffer(bytes(map(_ROLES.__getitem__, map(type, flat))), dtype=np.uint8)
        sizes = np.array(list(map(len, conversations)), dtype=np.int64)
        starts = np.cumsum(sizes) - sizes
        row_of = np.repeat(np.arange(len(sizes)), sizes)
        hashes = np.array(list(map(hash, contents)), dtype=np.int64).view(np.uint64)

        bad = _out_of_order(roles, starts, sizes)
        bad |= _repeated_turns(hashes, sizes, row_of)
        for place in _texts_to_leave(contents, unicode=unicode, control=control):
            bad[row_of[place]] = True
        places = np.array(kept, dtype=np.int64)
        whole, before = hash_rows(hashes, roles, starts, sizes)
        good = places[~bad]
        result.whole[good], result.before[good] = whole[~bad], before[~bad]
        if result.texts is not None:
            for index, messages in zip(kept, conversations, strict=True):
                if result.whole[index]:
                    result.texts[index] = "\n".join([m.content for m in messages if type(m) is not _System])
        return result


def _out_of_order(roles: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows that are not [system] (user assistant)+, shape (rows,)."""
    import numpy as np

    previous = np.empty_like(roles)
    previous[1:] = roles[:-1]
    previous[starts] = 3
    # After nothing: system or user. After system or assistant: user. After user: assistant.
    allowed = np.array([[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0]], dtype=bool)
    wrong = ~allowed[previous, roles]
    wrong[starts + sizes - 1] |= roles[starts + sizes - 1] != _ROLES[_Assistant]
    return np.logical_or.reduceat(wrong, starts)


def _repeated_turns(hashes: NDArray[np.uint64], sizes: NDArray[np.int64], row_of: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows of four messages or more in which two texts are equal, shape (rows,); in shorter ones no role comes twice."""
    import numpy as np

    found = np.zeros(len(sizes), dtype=bool)
    long = (sizes > 3)[row_of]
    rows = row_of[long]
    keyed = hashes[long] + rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    order = np.argsort(keyed)
    ordered = keyed[order]
    found[rows[order[1:][ordered[1:] == ordered[:-1]]]] = True
    return found


def _has_other_quotes(line: bytes, expected: int) -> bool:
    """Whether the line has not just the expected structural quotes; the cheap count errs where a text ends in \\\\."""
    cheap = line.count(b'"') - line.count(b'\\"')
    return cheap != expected and structural_quotes(line) != expected


def _quotes(rows: list[Any]) -> int:
    return _QUOTES_ROW * len(rows) + _QUOTES_MESSAGE * sum(map(len, map(_messages, rows)))


def _texts_to_leave(contents: Sequence[str], *, unicode: bool, control: bool) -> Iterable[int]:
    """Places of texts that are blank, or that hold mojibake or a control character."""
    places: set[int] = set()
    if True in map(str.isspace, contents):
        places.update(place for place, text in enumerate(contents) if text.isspace())
    if control:
        places.update(place for place, text in enumerate(contents) if CONTROL.search(text))
    if unicode:
        places.update(p for p, text in enumerate(contents) if not text.isascii() and any(True for _ in text_problems(text, "")))
    return places
