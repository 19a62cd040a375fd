"""Best-fit-decreasing packing: which documents share a sequence, so that little of it stays empty and no token is lost.

It decides only who sits with whom. Cutting long documents comes before, and keeping neighbours apart comes after (the
training loop attends per document).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Packing:
    """Sequence `i` holds the documents `documents[offsets[i]:offsets[i + 1]]`, in rising order.

    `offsets` is (sequences + 1,) and `documents` (documents,), both int64; every document stands in exactly one
    sequence. Sequences are ordered by their first document, so that reading them in turn moves forward through the
    file.
    """

    offsets: NDArray[np.int64]
    documents: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def one_per_sequence(count: int, together: int = 1) -> Packing:
    """Packing off: document `i` is sequence `i`, or each `together` documents in turn are one."""
    return Packing(np.arange(0, count + 1, together, dtype=np.int64), np.arange(count, dtype=np.int64))


def pack(lengths: NDArray[np.int64], capacity: int) -> Packing:
    """Pack documents of `lengths` (documents,) tokens into sequences of at most `capacity` tokens.

    Best fit decreasing: longest first, each into the fullest sequence that still has room. It needs at most 11/9 of the
    fewest possible sequences plus one (Johnson 1974). The open sequences are kept by the room they have left, and a bit
    set of the rooms in use finds the best one: a million documents take two seconds, whatever they look like.
    Equal lengths always give the equal packing.

    Raises `ValueError` for a document without tokens or longer than `capacity`.
    """
    if len(lengths) == 0:
        return one_per_sequence(0)
    if lengths.min() < 1 or lengths.max() > capacity:
        raise ValueError(f"documents must have 1 to {capacity} tokens; these have {lengths.min()} to {lengths.max()}")
    sequence_of = _best_fit(lengths, capacity)
    return _in_file_order(sequence_of)


def _best_fit(lengths: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """The sequence (an arbitrary number) that each document goes into; (documents,)."""
    by_length = np.argsort(-lengths, kind="stable")
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = _BitSet(capacity + 1)
    smallest_from, add, remove = rooms.smallest_from, rooms.add, rooms.remove
    placed = []
    opened = 0
    for length in lengths[by_length].tolist():
        room = smallest_from(length)
        if room < 0:
            room, sequence = capacity, opened
            opened += 1
        else:
            waiting = with_room[room]
            sequence = waiting.pop()
            if not waiting:
                remove(room)
        placed.append(sequence)
        if left := room - length:
            waiting = with_room[left]
            if not waiting:
                add(left)
            waiting.append(sequence)
    sequence_of = np.empty(len(lengths), dtype=np.int64)
    sequence_of[by_length] = placed
    return sequence_of


class _BitSet:
    """A set of small numbers that finds its smallest member at or above one: two levels of Python integers as bits.

    One level would shift `size` bits for each question; 128k-token sequences make that slow.
    """

    BITS = 10

    def __init__(self, size: int) -> None:
        self.words = [0] * ((size >> self.BITS) + 1)
        self.used = 0

    def add(self, number: int) -> None:
        word = number >> self.BITS
        self.words[word] |= 1 << (number & 1023)
        self.used |= 1 << word

    def remove(self, number: int) -> None:
        word = number >> self.BITS
        self.words[word] &= ~(1 << (number & 1023))
        if not self.words[word]:
            self.used &= ~(1 << word)

    def smallest_from(self, number: int) -> int:
        """The smallest member >= `number`, or -1."""
        word = number >> self.BITS
        if bits := self.words[word] >> (number & 1023):
            return number + (bits & -bits).bit_length() - 1
        later = self.used >> (word + 1)
        if not later:
            return -1
        word += (later & -later).bit_length()
        bits = self.words[word]
        return (word << self.BITS) + (bits & -bits).bit_length() - 1


def _in_file_order(sequence_of: NDArray[np.int64]) -> Packing:
    """Number the sequences by their first document and list each one's documents in rising order."""
    _, first = np.unique(sequence_of, return_index=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    sequence_of = rank[sequence_of]
    offsets = np.zeros(len(first) + 1, dtype=np.int64)
    np.cumsum(np.bincount(sequence_of, minlength=len(first)), out=offsets[1:])
    return Packing(offsets, np.argsort(sequence_of, kind="stable").astype(np.int64))
