"""One or two texts as a model that reads (and doesn't write) gets them: with the tokenizer's own special tokens.

They are encoded as transformers' pipelines do it, so that what is served is what was trained on: text that looks like
a special token is read as one there, and here too. What is longer than a sequence becomes several, each of which has
the special tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Encoded:
    """Tokens of one text, or of two; arrays are (tokens,)."""

    ids: NDArray[np.int64]
    text_of: NDArray[np.int64]
    """0 or 1 where a token is of that text, -1 for special tokens."""
    offsets: NDArray[np.int64]
    """(tokens, 2): [start, end) of each token in its text; (0, 0) for special ones."""

    @classmethod
    def of(cls, encoding: Any) -> Encoded:
        """From what the tokenizers library gives."""
        text_of = [-1 if number is None else number for number in encoding.sequence_ids]
        return cls(
            np.array(encoding.ids, dtype=np.int64),
            np.array(text_of, dtype=np.int64),
            np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_pair(self) -> bool:
        """Whether there are two texts."""
        return bool((self.text_of == 1).any())

    @property
    def second(self) -> int | None:
        """The first token of the second text; None where there is one text."""
        return int(np.argmax(self.text_of == 1)) if self.is_pair else None

    def at(self, index: NDArray[np.int64]) -> Encoded:
        """Some of the tokens."""
        return Encoded(self.ids[index], self.text_of[index], self.offsets[index])

    def room(self, max_length: int) -> int:
        """Tokens of the last text that fit beside all others; 0 or less where not even those do."""
        return max_length - int((self.text_of != self._last_text).sum())

    def places(self, max_length: int, stride: int = 0) -> Iterator[NDArray[np.int64]]:
        """Which tokens make each window: the last text in pieces, everything else in each of them; (tokens of it,).

        Neighbouring pieces share `stride` tokens. One window with all where all fit, and none where no token of the
        last text would fit.
        """
        if len(self) <= max_length:
            yield np.arange(len(self))
            return
        room = self.room(max_length)
        inside = np.flatnonzero(self.text_of == self._last_text)
        for start in range(0, len(inside) if room > stride else 0, max(1, room - stride)):
            there = self.text_of != self._last_text
            there[inside[start : start + room]] = True
            yield np.flatnonzero(there)
            if start + room >= len(inside):
                return

    def shortened(self, max_length: int) -> Encoded:
        """Cut to `max_length` tokens at the texts' ends, the longer text first, as transformers' `longest_first`."""
        if len(self) <= max_length:
            return self
        lengths = [int((self.text_of == text).sum()) for text in (0, 1)]
        room = max(0, max_length - int((self.text_of == -1).sum()))
        short, long = sorted(lengths)
        long = max(short, room - short)
        if short + long > room:
            short, long = room // 2, room - room // 2
        lengths = [short, long] if lengths[0] <= lengths[1] else [long, short]
        kept = [np.flatnonzero(self.text_of == text)[: lengths[text]] for text in (0, 1)]
        return self.at(np.sort(np.concatenate([np.flatnonzero(self.text_of == -1), *kept])))

    @property
    def _last_text(self) -> int:
        return 1 if self.is_pair else 0
