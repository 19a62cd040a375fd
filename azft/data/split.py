"""Splitting validation rows off the training rows: by content and seed, so that every machine chooses the same ones.

A row's fate depends on nothing but itself: not on the order of rows, nor on the rows around it. Equal rows fall on the
same side, so splitting never makes a leak.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

_SCALE = 1 << 64


def in_validation(row: dict[str, Any], *, share: float, seed: int) -> bool:
    """Whether a normalised row belongs to the validation rows, of which there are about `share` (0 to 1) of all."""
    return place_of(row, seed=seed) < share


def place_of(row: dict[str, Any], *, seed: int) -> float:
    """A number in [0, 1) for a row, uniform over rows and the same on every machine."""
    content = msgspec.json.encode(row, order="deterministic")
    digest = hashlib.blake2b(content, digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") / _SCALE


def choose_validation(places: Iterable[float], *, share: float) -> list[bool]:
    """Which rows go to validation, given each row's `place_of`, in order; both sides get at least one distinct row.

    The rows below `share`; where that leaves a side empty, the rows with the smallest or the largest place change
    sides, all of their copies with them. With fewer than two distinct rows nothing can be split off, and all rows stay.
    """
    numbers = list(places)
    distinct = sorted(set(numbers))
    if len(distinct) < 2:
        return [False] * len(numbers)
    border = share
    if distinct[0] >= share:
        border = distinct[1]
    elif distinct[-1] < share:
        border = distinct[-1]
    return [number < border for number in numbers]
