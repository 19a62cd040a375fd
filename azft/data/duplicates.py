"""Comparing rows with one another through their hashes: copies, contradictions, and training rows in held-out data.

63-bit hashes, keyed anew in each run: among a million rows the chance of one false match is 5e-8, so rows are not read
again. Sorting needs 16 bytes a row for a moment.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azft.data.rules import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from azft.data.scan import Scan

_BUT = ", but for case and spacing"


@dataclass(frozen=True, slots=True)
class Hashes:
    """One file's row hashes: of the whole row, and of what comes before the answer; 0 where there is none."""

    role: str
    whole: NDArray[np.uint64]
    before: NDArray[np.uint64]
    lines: array[int] | None
    prompts: NDArray[np.uint64] | None = None
    """Hashes of the prompts but for case and spacing, where near-duplicates are looked for; likewise of the answers."""
    answers: NDArray[np.uint64] | None = None

    @classmethod
    def of(cls, role: str, scan: Scan) -> Hashes:
        """Wrap the arrays of a scan without copying them."""
        import numpy as np

        whole, before = (np.frombuffer(numbers, dtype=np.uint64) for numbers in (scan.whole, scan.before))
        if scan.signatures is None:
            return cls(role, whole, before, scan.lines)
        kept = (scan.signatures.prompts, scan.signatures.answers)
        return cls(role, whole, before, scan.lines, *(np.frombuffer(numbers, dtype=np.uint64) for numbers in kept))

    def line(self, index: int | np.integer[Any]) -> int:
        """The line of a row, or its row number in Parquet."""
        return int(index) + 1 if self.lines is None else self.lines[int(index)]


def within(hashes: Hashes) -> Iterator[tuple[Problem, int]]:
    """Copies and contradictions inside one file, each with its line, in order of lines."""
    for row, first in _repeats(hashes.whole):
        yield Problem("duplicate-row", {"line": hashes.line(first)}), hashes.line(row)
    exact = set()
    for row, first in _repeats(hashes.before):
        exact.add(row)
        if hashes.whole[row] != hashes.whole[first]:
            yield Problem("conflicting-answers", {"line": hashes.line(first), "but": ""}), hashes.line(row)
    if hashes.prompts is not None and hashes.answers is not None:
        for row, first in _repeats(hashes.prompts):
            if row not in exact and hashes.answers[row] != hashes.answers[first]:
                yield Problem("conflicting-answers", {"line": hashes.line(first), "but": _BUT}), hashes.line(row)


def between(held_out: Hashes, other: Hashes) -> Iterator[tuple[Problem, int]]:
    """Rows and prompts of a held-out file that the other file has too, with the held-out file's lines."""
    leaked = set()
    for row, match in _matches(held_out.whole, other.whole):
        leaked.add(row)
        yield Problem("leak", {"other": other.role, "line": other.line(match)}), held_out.line(row)
    for row, match in _matches(held_out.before, other.before):
        if row not in leaked:
            leaked.add(row)
            yield (
                Problem("prompt-leak", {"other": other.role, "line": other.line(match), "but": ""}),
                held_out.line(row),
            )
    if held_out.prompts is None or other.prompts is None or held_out.answers is None or other.answers is None:
        return
    for row, match in _matches(held_out.prompts, other.prompts):
        if row not in leaked and held_out.answers[row] != other.answers[match]:
            values = {"other": other.role, "line": other.line(match), "but": _BUT}
            yield Problem("prompt-leak", values), held_out.line(row)


def _repeats(values: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """(index, index of the first equal value) of every value that was there before; zeros don't count."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    ordered = values[order]
    fresh = np.ones(len(ordered), dtype=bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    again = np.flatnonzero(~fresh & (ordered != 0))
    if not len(again):
        return []
    starts = np.flatnonzero(fresh)
    firsts = starts[np.searchsorted(starts, again, side="right") - 1]
    pairs = np.stack((order[again], order[firsts]), axis=1)
    return [(int(a), int(b)) for a, b in pairs[np.argsort(pairs[:, 0])]]


def _matches(values: NDArray[np.uint64], others: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """(index in values, index of the first equal one in others), zeros apart."""
    import numpy as np

    if not len(others):
        return []
    order = np.argsort(others, kind="stable")
    places = np.searchsorted(others, values, sorter=order)
    places[places == len(others)] = 0
    candidates = order[places]
    hits = np.flatnonzero((others[candidates] == values) & (values != 0))
    return [(int(row), int(candidates[row])) for row in hits]
