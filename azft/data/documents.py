"""Rendered rows become documents: pieces of at most `max_length` tokens with something to learn in each.

What happens to a row that is longer is data.long_rows of the recipe; all four ways are here, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from azft.data.dataset import Source

LongRows = Literal["drop", "truncate", "split", "error"]


class Piece(NamedTuple):
    """A document: token ids and loss mask, each (tokens,), and what is to be told at each token in the loss."""

    token_ids: NDArray[np.int64]
    loss_mask: NDArray[np.bool_]
    targets: NDArray[np.int32] | None = None
    """(tokens in the loss, numbers each); None: the tokens themselves."""
    references: tuple[str, ...] = ()
    """Texts any of which is right as the model's answer; () for a part of a row, whose prompt is not whole."""
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
    dropped_unlabelled: int = 0
    """Documents left out because no token of them is learned (all turns have weight 0, or the answer was cut off)."""
    straddling: int = 0
    """Rows in which a token holds both template text and the beginning of an answer."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def cut(token_ids: list[int], mask: NDArray[np.bool_], max_length: int, long_rows: LongRows) -> Iterator[Piece]:
    """The documents that a row becomes.

    `split` starts each further piece with the last token before it, outside the loss: so every labelled token has one
    to be predicted from, and is learned exactly once. With `error`, too long rows are the caller's to refuse.
    """
    ids = np.asarray(token_ids, dtype=np.int64)
    if len(ids) <= max_length:
        yield Piece(ids, mask)
    elif long_rows == "truncate":
        yield Piece(ids[:max_length], mask[:max_length])
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
) -> Iterator[Piece]:
    """The documents of a row whose tokens are learned, those with something to learn; `counts` is kept up to date."""
    counts.rows += 1
    counts.straddling += straddling
    is_long = len(token_ids) > max_length
    counts.long_rows += is_long
    counts.dropped_long += is_long and long_rows == "drop"
    for piece in cut(token_ids, loss_mask, max_length, long_rows):
        if not piece.loss_mask[1:].any():  # the first token of a document follows nothing, so it is never predicted
            counts.dropped_unlabelled += 1
            continue
        counts.documents += 1
        yield piece if is_long else piece._replace(references=references)
