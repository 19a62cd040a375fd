"""The fast lane for plain conversations: msgspec proves a block's structure in C, numpy its order and its hashes.

A row that is anything but plain and good (tool calls, weights, text parts, any fault) leaves the lane and is read
again by `azft.data.rows`, which says why. Python runs a few times a block, not a few times a row; benchmarks/check.py
measures it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from azft.data.chat import row_text
from azft.data.json_bytes import BlockFacts, look_at_block, structural_quotes
from azft.data.lane import LaneResult
from azft.data.row_hash import hash_rows
from azft.data.text import CONTROL, text_problems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, msgspec.Meta(min_length=1)]


_SYSTEM, _USER, _ASSISTANT, _NOTHING = range(4)
_ROLE_BY_LENGTH = [_NOTHING] * len("user") + [_USER, _NOTHING, _SYSTEM, _NOTHING, _NOTHING, _ASSISTANT]
# What may come after what, [previous, role]: after nothing system or user, after system or assistant user, after user
# assistant.
_ALLOWED = ((0, 1, 0), (0, 0, 1), (0, 1, 0), (1, 1, 0))
_QUOTES_ROW, _QUOTES_MESSAGE = 2, 8
"""Structural quotes of {"messages": [...]}, and of {"role": "...", "content": "..."}: more means a key given twice."""


class ChatLane:
    """Reads rows that have `column` and nothing else but the `ignored` columns, which may hold anything."""

    def __init__(self, column: str, ignored: Iterable[str] = ()) -> None:
        self.ignored = frozenset(ignored)
        fields: list[Any] = [("messages", list[_Message])]
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
        conversations = [row.messages if row is not None else [] for row in rows]
        if all(conversations):
            result = _judge(conversations, facts, texts)
        else:
            result = LaneResult.of(len(rows), texts)
            kept = [index for index, messages in enumerate(conversations) if messages]
            if kept:
                result.put(kept, _judge([conversations[index] for index in kept], facts, texts))
        self._leave_keys_given_twice(block, facts, rows, sum(map(len, conversations)), result)
        return result

    def _leave_keys_given_twice(
        self, block: bytes, facts: BlockFacts, rows: list[Any], messages: int, result: LaneResult
    ) -> None:
        """A decoder takes the last of two equal keys without a word; but the other one's quotes stand in the block."""
        if self.ignored:
            if block.count(self._key) != facts.lines:
                lines = block.split(b"\n")[: facts.lines]
                result.leave(index for index, line in enumerate(lines) if line.count(self._key) != 1)
            return
        if facts.quotes == _QUOTES_ROW * len(rows) + _QUOTES_MESSAGE * messages:
            return
        for index, line in enumerate(block.split(b"\n")[: facts.lines]):
            expected = _QUOTES_ROW + _QUOTES_MESSAGE * len(rows[index].messages) if result.whole[index] else 0
            if expected and _has_other_quotes(line, expected):
                result.leave([index])

    def _decode(self, line: bytes) -> Any:
        try:
            return self._decoder.decode(line)
        except (ValueError, RecursionError):
            return None


def _judge(conversations: list[list[_Message]], facts: BlockFacts, texts: bool) -> LaneResult:
    """Hashes of conversations of one message or more; 0 where the thorough check must look."""
    import numpy as np

    flat = [message for messages in conversations for message in messages]
    contents = [message.content for message in flat]
    # The lengths of the three names tell them apart, and `len` is the cheapest of all calls.
    names = np.frombuffer(bytes([len(message.role) for message in flat]), dtype=np.uint8)
    roles = np.array(_ROLE_BY_LENGTH, dtype=np.uint8)[names]
    hashes = np.array(list(map(hash, contents)), dtype=np.int64).view(np.uint64)
    sizes = np.array(list(map(len, conversations)), dtype=np.int64)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    row_of = np.repeat(np.arange(len(sizes)), sizes)

    whole, before = hash_rows(hashes, roles, starts, sizes)
    bad = _out_of_order(roles, starts, ends)
    bad |= _repeated_turns(hashes, sizes, row_of)
    for place in _texts_to_leave(contents, facts):
        bad[row_of[place]] = True
    result = LaneResult(whole, before, None)
    if texts:
        compared = (row_text([m.role for m in turns], [m.content for m in turns]) for turns in conversations)
        result = LaneResult(whole, before, list(compared))
    if bad.any():
        result.leave(np.flatnonzero(bad).tolist())
    return result


def _out_of_order(roles: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows that are not [system] (user assistant)+, shape (rows,)."""
    import numpy as np

    previous = np.empty_like(roles)
    previous[1:] = roles[:-1]
    previous[starts] = _NOTHING
    wrong = ~np.array(_ALLOWED, dtype=bool).ravel()[previous * 3 + roles]
    wrong[ends - 1] |= roles[ends - 1] != _ASSISTANT
    return np.logical_or.reduceat(wrong, starts)


def _repeated_turns(
    hashes: NDArray[np.uint64], sizes: NDArray[np.int64], row_of: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Rows of four messages or more in which two texts are equal, shape (rows,). In shorter ones no role is twice."""
    import numpy as np

    found = np.zeros(len(sizes), dtype=bool)
    long = (sizes > 3)[row_of]
    rows = row_of[long]
    keyed = hashes[long] + rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    ordered = np.sort(keyed)
    if not (ordered[1:] == ordered[:-1]).any():
        return found
    order = np.argsort(keyed)
    ordered = keyed[order]
    found[rows[order[1:][ordered[1:] == ordered[:-1]]]] = True
    return found


def _has_other_quotes(line: bytes, expected: int) -> bool:
    """Whether the line has not just the expected structural quotes; the cheap count errs after an escaped backslash."""
    cheap = line.count(b'"') - line.count(b'\\"')
    return cheap != expected and structural_quotes(line) != expected


def _texts_to_leave(contents: Sequence[str], facts: BlockFacts) -> set[int]:
    """Places of texts that are blank, or that hold mojibake or a control character."""
    places: set[int] = set()
    if True in map(str.isspace, contents):
        places.update(place for place, text in enumerate(contents) if text.isspace())
    if facts.maybe_control:
        places.update(place for place, text in enumerate(contents) if CONTROL.search(text))
    if facts.maybe_unicode:
        foreign = ((place, text) for place, text in enumerate(contents) if not text.isascii())
        places.update(place for place, text in foreign if any(True for _ in text_problems(text, "")))
    return places
