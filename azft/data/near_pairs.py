"""From candidates to reports: reading the rows that may be near-duplicates a second time and comparing them exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from azft.data.formats import read_batches
from azft.data.near_duplicates import THRESHOLD, candidates, similarity, squeezed
from azft.data.rows import RowChecker
from azft.data.rules import Problem

if TYPE_CHECKING:
    from azft.data.duplicates import Hashes
    from azft.data.near_duplicates import Signatures

MAX_PAIRS = 20_000
"""Candidate pairs compared at most: 0.1 ms each, so two seconds."""
_SAME = "But for case, spacing and the system turn, the row is the same"
_MAX_TEXT = 1 << 16
_MAX_HELD = 256 << 20


@dataclass(frozen=True, slots=True)
class NearFile:
    """One file with what the scan kept of it."""

    path: Path
    hashes: Hashes
    signatures: Signatures


def near_duplicates(
    files: Sequence[NearFile], task: str, columns: Mapping[str, str]
) -> list[tuple[int, Problem, int | None]]:
    """Problems as (number of the file, problem, line), in order. Files come in the order train, validation, test.

    A row is reported once, with the most similar row before it; copies and contradictions are left to `duplicates`.
    """
    import numpy as np

    bands = np.concatenate([file.signatures.array() for file in files])
    whole = np.concatenate([file.hashes.whole for file in files])
    before = np.concatenate([file.hashes.before for file in files])
    offsets = np.cumsum([0] + [len(file.hashes.whole) for file in files])
    pairs = candidates(bands)
    prompts = np.concatenate([file.signatures.prompts for file in files])
    answers = np.concatenate([file.signatures.answers for file in files])
    one, two = pairs[:, 0], pairs[:, 1]
    known = ((whole[one] == whole[two]) & (whole[one] != 0)) | ((before[one] == before[two]) & (before[one] != 0))
    known |= (prompts[one] == prompts[two]) & (prompts[one] != 0) & (answers[one] != answers[two])
    pairs = pairs[~known]  # reported as copies and contradictions
    capped = len(pairs) > MAX_PAIRS
    pairs = pairs[:MAX_PAIRS]
    texts: dict[int, bytes] = {}
    for file, offset in zip(files, offsets[:-1], strict=True):
        wanted = pairs[(pairs >= offset) & (pairs < offset + len(file.hashes.whole))]
        _read(file.path, RowChecker(task, columns), set(map(int, wanted)), int(offset), texts)
    best: dict[tuple[int, str], tuple[float, int]] = {}
    for first, second in pairs.tolist():
        if first not in texts or second not in texts:
            capped = True
            continue
        score = similarity(texts[first], texts[second])
        if score >= THRESHOLD:
            a, b = (int(np.searchsorted(offsets, row, side="right")) - 1 for row in (first, second))
            key = (second, "near-duplicate" if a == b else "near-leak")
            if key not in best or best[key][0] < score:
                best[key] = (score, first)
    found: list[tuple[int, Problem, int | None]] = []
    for (row, code), (score, partner) in sorted(best.items()):
        a, b = (int(np.searchsorted(offsets, index, side="right")) - 1 for index in (partner, row))
        values = {
            "similarity": _SAME if score == 1.0 else f"{min(score, 0.99):.0%} of the row's text is the same",
            "line": files[a].hashes.line(partner - offsets[a]),
            "other": files[a].hashes.role,
        }
        found.append((b, Problem(code, values), files[b].hashes.line(row - offsets[b])))
    if capped:
        found.append((0, Problem("near-capped", {"pairs": f"{MAX_PAIRS:,}"}), None))
    return found


def _read(path: Path, checker: RowChecker, wanted: set[int], offset: int, texts: dict[int, bytes]) -> None:
    """Add the squeezed texts of the wanted rows, numbered from `offset`, until too much is held."""
    index = offset
    held = sum(map(len, texts.values()))
    for batch in read_batches(path) if wanted else ():
        for raw in batch.rows:
            if index in wanted and raw is not None:
                _, row = checker.check_json(raw) if isinstance(raw, bytes) else checker.check(raw)
                text = checker.text(row) if row is not None else None
                if text is not None and held < _MAX_HELD:
                    texts[index] = (squeezed(text.before) + squeezed(text.answer))[:_MAX_TEXT]
                    held += len(texts[index])
            index += 1
