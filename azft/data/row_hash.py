"""64-bit hashes of conversations, made of Python's own keyed hashes of their texts: of a block of rows, and of one row.

Both give the same numbers, whichever lane a row went through. They are comparable within one run only: Python's hash is
keyed anew in each process, and workers share a key (`azft.data.workers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_ROLE = 0xC2B2AE3D27D4EB4F
_PLACE = 0xD6E8FEB86659FD93  # a power of it weighs each place; odd, so no place is lost
_FINISH = 0xBF58476D1CE4E5B9


def hash_rows(
    hashes: NDArray[np.uint64], roles: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(whole, before) of rows, shape (rows,), from their messages' text hashes and role numbers, shape (messages,).

    `before` leaves out the last message, and is 0 for a row of one.
    """
    import numpy as np

    place = np.arange(len(hashes)) - np.repeat(starts, sizes)
    # The text hashes are uniform already: an odd weight for each place and a mark for each role keep them apart.
    mixed = (hashes ^ _role_marks()[roles]) * _powers(int(sizes.max()))[place]
    sums = np.add.reduceat(mixed, starts)
    before = _finish(sums - mixed[starts + sizes - 1])
    before[sizes == 1] = 0
    return _finish(sums), before


def hash_row(hashes: Sequence[int], roles: Sequence[int]) -> tuple[int, int]:
    """The same for one row, in Python's integers."""
    total, last, power = 0, 0, 1
    for text, role in zip(hashes, roles, strict=True):
        last = ((text & _MASK) ^ (role * _ROLE & _MASK)) * power & _MASK
        total = (total + last) & _MASK
        power = power * _PLACE & _MASK
    return _finish_one(total), _finish_one((total - last) & _MASK) if len(hashes) > 1 else 0


def hash_bytes(*parts: bytes | int) -> int:
    """A hash of anything else, in the same range; never 0."""
    return _finish_one(hash(parts) & _MASK)


def _finish(sums: NDArray[np.uint64]) -> NDArray[np.uint64]:
    import numpy as np

    mixed = (sums ^ (sums >> np.uint64(31))) * np.uint64(_FINISH)
    mixed ^= mixed >> np.uint64(29)
    return mixed | np.uint64(1)


def _finish_one(value: int) -> int:
    mixed = (value ^ (value >> 31)) * _FINISH & _MASK
    return (mixed ^ (mixed >> 29)) | 1


@cache
def _role_marks() -> Any:
    import numpy as np

    return np.arange(4, dtype=np.uint64) * np.uint64(_ROLE)


@cache
def _table(size: int) -> Any:
    import numpy as np

    return np.cumprod(np.array([1] + [_PLACE] * (size - 1), dtype=np.uint64), dtype=np.uint64)


def _powers(size: int) -> NDArray[np.uint64]:
    """Powers of `_PLACE` from 0 on, at least `size` of them, shape (power of two,)."""
    table: NDArray[np.uint64] = _table(1 << max(size - 1, 15).bit_length())
    return table
