"""From candidates to reports: reading the rows that may be near-duplicates a second time and comparing them exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from azft.data.formats import read_batches
from azft.data.lane import RowText
from azft.data.near_duplicates import PROMPT_THRESHOLD, THRESHOLD, as_bands, candidates, similarity, squeezed
from azft.data.rows import RowChecker
from azft.data.rules import Problem
from azft.tasks import TASKS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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

    A row is reported once, with the most similar row before it, and its prompt where only that is in another file.
    Copies and contradictions are left to `duplicates`.
    """
    import numpy as np

    sizes = [len(file.hashes.whole) for file in files]
    file_of = np.repeat(np.arange(len(files)), sizes)
    offsets = np.cumsum([0, *sizes])
    checker = RowChecker(task, columns)
    found: list[tuple[int, Problem, int | None]] = []

    def report(code: str, same: str, alike: str, best: dict[tuple[int, int], tuple[float, int]]) -> None:
        for (row, _), (score, partner) in sorted(best.items()):
            theirs, mine = int(file_of[partner]), int(file_of[row])
            values = {
                "similarity": same if score == 1.0 else alike.format(min(score, 0.99)),
                "line": files[theirs].hashes.line(partner - offsets[theirs]),
                "other": files[theirs].hashes.role,
            }
            near_code = code if theirs != mine else "near-duplicate"
            found.append((mine, Problem(near_code, values), files[mine].hashes.line(row - offsets[mine])))

    pairs = _unreported(candidates(np.concatenate([as_bands(file.signatures.bands) for file in files])), files)
    # Pairs of two files first: should there be too many, a leak matters more than a copy.
    across = file_of[pairs[:, 0]] != file_of[pairs[:, 1]]
    rows, capped = _compare(files, checker, pairs[np.argsort(~across, kind="stable")], file_of, _whole, THRESHOLD)
    report("near-leak", _SAME, "{:.0%} of the row's text is the same", rows)
    if files[0].signatures.with_prompt_bands:
        pairs = _unreported(candidates(np.concatenate([as_bands(f.signatures.prompt_bands) for f in files])), files)
        pairs = pairs[file_of[pairs[:, 0]] != file_of[pairs[:, 1]]]
        prompts, more = _compare(files, checker, pairs, file_of, _prompt, PROMPT_THRESHOLD)
        report(
            "near-prompt-leak",
            "",
            f"{{:.0%}} of the {TASKS[task].asked} is the same",
            {k: v for k, v in prompts.items() if k not in rows},
        )
        capped |= more
    if capped:
        found.append((0, Problem("near-capped", {"pairs": f"{MAX_PAIRS:,}"}), None))
    return found


def _unreported(pairs: NDArray[np.int64], files: Sequence[NearFile]) -> NDArray[np.int64]:
    """Pairs that `duplicates` has not reported already as copies, contradictions or leaks."""
    import numpy as np

    one, two = pairs[:, 0], pairs[:, 1]

    def equal(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return np.asarray((values[one] == values[two]) & (values[one] != 0))

    answers = np.concatenate([file.signatures.answers for file in files])
    contradiction = equal(np.concatenate([file.signatures.prompts for file in files])) & (answers[one] != answers[two])
    copy = equal(np.concatenate([file.hashes.whole for file in files]))
    left: NDArray[np.int64] = pairs[
        ~(copy | contradiction | equal(np.concatenate([file.hashes.before for file in files])))
    ]
    return left


def _compare(
    files: Sequence[NearFile],
    checker: RowChecker,
    pairs: NDArray[np.int64],
    file_of: NDArray[np.intp],
    part: Callable[[RowText], tuple[bytes, ...]],
    threshold: float,
) -> tuple[dict[tuple[int, int], tuple[float, int]], bool]:
    """For each (row, file of its partner) the best similarity and the partner, and whether some pairs were left out.

    Two rows are as similar as the least similar of what `part` makes of them.
    """
    capped = len(pairs) > MAX_PAIRS
    pairs = pairs[:MAX_PAIRS]
    texts: dict[int, tuple[bytes, ...]] = {}
    offset = 0
    for file in files:
        size = len(file.hashes.whole)
        wanted = pairs[(pairs >= offset) & (pairs < offset + size)]
        _read(file.path, checker, set(map(int, wanted)), offset, part, texts)
        offset += size
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for first, second in pairs.tolist():
        if first not in texts or second not in texts:
            capped = True
            continue
        score = min(map(similarity, texts[first], texts[second]))
        key = (second, int(file_of[first]))
        if score >= threshold and (key not in best or best[key][0] < score):
            best[key] = (score, first)
    return best, capped


def _whole(text: RowText) -> tuple[bytes, ...]:
    return _with_passage(text, squeezed(text.before) + squeezed(text.answer))


def _prompt(text: RowText) -> tuple[bytes, ...]:
    return _with_passage(text, squeezed(text.before))


def _with_passage(text: RowText, own: bytes) -> tuple[bytes, ...]:
    """What is the row's own, and where it is about a passage that others may have, too, both together."""
    return (own, squeezed(text.passage) + own) if text.passage else (own,)


def _read(
    path: Path,
    checker: RowChecker,
    wanted: set[int],
    offset: int,
    part: Callable[[RowText], tuple[bytes, ...]],
    texts: dict[int, tuple[bytes, ...]],
) -> None:
    """Add the compared part of the wanted rows, numbered from `offset`, until too much is held."""
    index = offset
    held = sum(len(kept) for parts in texts.values() for kept in parts)
    for batch in read_batches(path) if wanted else ():
        for raw in batch.rows:
            if index in wanted and raw is not None:
                _, row = checker.check_json(raw) if isinstance(raw, bytes) else checker.check(raw)
                text = checker.text(row) if row is not None else None
                if text is not None and held < _MAX_HELD:
                    texts[index] = tuple(kept[:_MAX_TEXT] for kept in part(text))
                    held += sum(map(len, texts[index]))
            index += 1
