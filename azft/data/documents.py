"""Rendered rows become documents: pieces of at most `max_length` tokens with something to learn in each.

What happens to a row that is longer is data.long_rows of the recipe; all four ways are here, and counted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from azft.data.dataset import Source

LongRows = Literal["drop", "truncate", "split", "error"]


@dataclass(frozen=True, slots=True)
class Spare:
    """The stretch [start, end) of a row that it can lose from when it is too long, so that its answer stays whole.

    Characters of its text, or tokens. An empty one: the row has an answer, and nothing before it can go.
    """

    start: int
    end: int
    from_start: bool = False
    """Whether its beginning goes, and not its end: what an answer continues directly must stay next to it."""

    def moved(self, by: int) -> Spare:
        """The same stretch where `by` more stand before it."""
        return replace(self, start=self.start + by, end=self.end + by)

    def tokens(self, offsets: Sequence[tuple[int, int]]) -> Spare:
        """The tokens that lie wholly in it; `offsets` are [start, end) of each token in the text, in order."""
        first = bisect_left(offsets, (self.start, -1))
        end = bisect_right(offsets, self.end, key=lambda offset: offset[1])
        return replace(self, start=first, end=max(first, end))

    def kept(self, length: int, excess: int) -> NDArray[np.int64] | None:
        """Which of `length` tokens stay when `excess` of the stretch's go; None where nothing of it would be left."""
        if excess >= self.end - self.start:
            return None
        first = self.start if self.from_start else self.end - excess
        return np.delete(np.arange(length), np.s_[first : first + excess])


NOTHING_SPARE = Spare(0, 0)


class Piece(NamedTuple):
    """A document: token ids and loss mask, each (tokens,), and what is to be told at each token in the loss."""

    token_ids: NDArray[np.int64]
    loss_mask: NDArray[np.bool_]
    targets: NDArray[np.int32] | None = None
    """(tokens in the loss, numbers each); None: the tokens themselves."""
    references: tuple[str, ...] = ()
    """Texts any of which is right as the model's answer; () for a piece of a row, which may begin or end anywhere. A
    row whose prompt lost from its spare stretch keeps them: a model whose sequences are that short is never asked with
    more, and measures over the short rows alone would flatter it."""
    second: int | None = None
    """The token at which the second of two texts starts; None where there is one text."""
    source: Source | None = None
    """Where it is from, where answers are parts of a row's text."""
    pixels: NDArray[np.uint8] | None = None
    """(3, height, width) of the picture that belongs to it."""


@dataclass
class Counts:
    """What became of the rows of one split."""

    rows: int = 0
    documents: int = 0
    long_rows: int = 0
    """Rows longer than max_length, whatever happened to them."""
    dropped_long: int = 0
    """Those left out whole: by `drop`, or by `truncate` where the answer leaves no room for a prompt."""
    dropped_unlabelled: int = 0
    """Documents left out because no token of them is learned (all turns have weight 0, or the answer was cut off)."""
    straddling: int = 0
    """Rows in which a token holds both template text and the beginning of an answer."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def cut(
    token_ids: list[int],
    mask: NDArray[np.bool_],
    max_length: int,
    long_rows: LongRows,
    spare: Spare | None = None,
) -> Iterator[Piece]:
    """The documents that a row becomes.

    `truncate` keeps the beginning of a row without a `spare` stretch. Of one that has it only that is cut, and the row
    is left out where that isn't enough: an answer to nothing teaches to invent, one without its end never to stop.
    `split` starts each further piece with the last token before it, outside the loss: so every labelled token has one
    to be predicted from, and is learned exactly once. With `error`, too long rows are the caller's to refuse.
    """
    ids = np.asarray(token_ids, dtype=np.int64)
    if len(ids) <= max_length:
        yield Piece(ids, mask)
    elif long_rows == "truncate" and spare is None:
        yield Piece(ids[:max_length], mask[:max_length])
    elif long_rows == "truncate" and spare is not None:
        if (kept := spare.kept(len(ids), len(ids) - max_length)) is not None:
            yield Piece(ids[kept], mask[kept])
    elif long_rows == "split":
        for start in range(0, len(ids) - 1, max_length - 1):
            piece = mask[start : start + max_length].copy()
            piece[0] &= start == 0
            yield Piece(ids[start : start + max_length], piece)


def pieces(
    token_ids: list[int],
    loss_mask: NDArray[np.bool_],
    max_length: int,
    long_rows: LongRows,
    counts: Counts,
    *,
    straddling: bool = False,
    references: tuple[str, ...] = (),
    spare: Spare | None = None,
) -> Iterator[Piece]:
    """The documents of a row whose tokens are learned, those with something to learn; `counts` is kept up to date."""
    counts.rows += 1
    counts.straddling += straddling
    is_long = len(token_ids) > max_length
    counts.long_rows += is_long
    parts = list(cut(token_ids, loss_mask, max_length, long_rows, spare))
    counts.dropped_long += not parts
    is_part = is_long and (long_rows == "split" or spare is None)
    for piece in parts:
        if not piece.loss_mask[1:].any():  # the first token of a document follows nothing, so it is never predicted
            counts.dropped_unlabelled += 1
            continue
        counts.documents += 1
        yield piece if is_part else piece._replace(references=references)
