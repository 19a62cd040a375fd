"""Rendered rows become documents: pieces of at most `max_length` tokens with something to learn in each.

What happens to a row that is longer is data.long_rows of the recipe; all four ways are here, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from azft.data.masking import Rendered

LongRows = Literal["drop", "truncate", "split", "error"]
Piece = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Token ids and loss mask of a document, each (tokens,)."""


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
        yield ids, mask
    elif long_rows == "truncate":
        yield ids[:max_length], mask[:max_length]
    elif long_rows == "split":
        for start in range(0, len(ids) - 1, max_length - 1):
            piece = mask[start : start + max_length].copy()
            piece[0] &= start == 0
            yield ids[start : start + max_length], piece


def documents(rendered: Rendered, max_length: int, long_rows: LongRows, counts: Counts) -> Iterator[Piece]:
    """The documents of a row that have something to learn; `counts` is kept up to date."""
    counts.rows += 1
    counts.straddling += rendered.straddling > 0
    is_long = len(rendered.token_ids) > max_length
    counts.long_rows += is_long
    counts.dropped_long += is_long and long_rows == "drop"
    for ids, mask in cut(rendered.token_ids, rendered.loss_mask, max_length, long_rows):
        if not mask[1:].any():  # the first token of a document follows nothing, so it is never predicted
            counts.dropped_unlabelled += 1
            continue
        counts.documents += 1
        yield ids, mask
