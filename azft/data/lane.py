"""What a fast lane is: a reader that takes the plain good rows of a block at C speed and leaves all others.

A column kind may have one (`azft.data.columns`); a kind without one has every row read the thorough way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RowText(NamedTuple):
    """A row's text as near-duplicates see it.

    `system`: instructions that whole data sets share; `before`: what precedes the part that is learned; `answer`: that
    part; `passage`: what several rows ask about in turn (`Task.passage`), so that having it in common makes no copies.
    """

    system: str
    before: str
    answer: str
    passage: str = ""


@dataclass(frozen=True, slots=True)
class LaneResult:
    """Hashes of a block's rows (`azft.data.row_hash`), shape (rows,), 0 for one that left the lane; texts if wanted."""

    whole: NDArray[np.uint64]
    before: NDArray[np.uint64]
    texts: list[RowText | None] | None

    @classmethod
    def of(cls, rows: int, texts: bool) -> LaneResult:
        """A result in which every row has left the lane."""
        import numpy as np

        return cls(np.zeros(rows, np.uint64), np.zeros(rows, np.uint64), [None] * rows if texts else None)

    def leave(self, rows: Iterable[int]) -> None:
        """Mark rows as having left the lane."""
        for row in rows:
            self.whole[row] = self.before[row] = 0
            if self.texts is not None:
                self.texts[row] = None

    def put(self, places: list[int], other: LaneResult) -> None:
        """Take the results of some rows, in order, into their places."""
        self.whole[places], self.before[places] = other.whole, other.before
        if self.texts is not None and other.texts is not None:
            for place, text in zip(places, other.texts, strict=True):
                self.texts[place] = text

    @property
    def left(self) -> list[int]:
        """Indexes of the rows that left the lane."""
        import numpy as np

        return list(map(int, np.flatnonzero(self.whole == 0)))


class Lane(Protocol):
    """A fast lane."""

    ignored: frozenset[str]
    """Columns that are passed over."""

    def read_block(self, block: bytes, *, texts: bool) -> LaneResult:
        """Read a block of whole lines (the last may lack its newline)."""
