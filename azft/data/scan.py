"""One streaming pass over a file, or over a byte range of it: problems counted, rows hashed, lengths looked at.

Memory: a block, the first few problems of each code, and 16 bytes a row for the hashes (8 more where rows are not
lines, 40 to 64 more for near-duplicates).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azft.data.formats import SPLITTABLE, read_batches
from azft.data.label_counts import LabelCounts
from azft.data.lane import LaneResult, RowText
from azft.data.near_duplicates import Signatures
from azft.data.rows import RowChecker
from azft.data.rules import Problem
from azft.data.sources import Batch, LineBatch, json_lines
from azft.data.tally import Tally
from azft.data.template_trial import TemplateTrial
from azft.errors import AzftError

LengthCounter = Callable[[list[dict[str, Any]]], list[int]]
"""Token counts of normalised rows (task column to value), as the model will see them."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How row lengths are checked: a row with more than `limit` tokens is long, and `fate` says what becomes of it.

    `fate` is "" when a long row is an error. Rows of at most `limit` - `margin` bytes are not counted: a byte-level
    tokenizer makes at most a token a byte, JSON's own notation outweighs a template's, and `margin` bytes are left for
    a system text that the template may add.
    """

    count: LengthCounter
    limit: int
    source: str
    fate: str
    margin: int = 2048


@dataclass(slots=True)
class Scan:
    """What a pass found. Lines count from the start of the piece; `whole` and `before` have one hash a row in order.

    A hash of 0 is a row that was not good. `lines` is None when row i stands on line i + 1.
    """

    line_count: int = 0
    rows: int = 0
    tally: Tally = field(default_factory=Tally)
    whole: array[int] = field(default_factory=lambda: array("Q"))
    before: array[int] = field(default_factory=lambda: array("Q"))
    lines: array[int] | None = None
    signatures: Signatures | None = None
    labels: LabelCounts = field(default_factory=LabelCounts)


def scan_file(
    path: Path,
    task: str,
    columns: Mapping[str, str],
    *,
    start: int = 0,
    end: int | None = None,
    near: bool = False,
    near_prompts: bool = False,
    lengths: Lengths | None = None,
    trial: TemplateTrial | None = None,
) -> Scan:
    """Scan a file whose head has been looked at (`formats.look_at`); its bytes [start, end) if it is splittable."""
    signatures = Signatures(near_prompts) if near else None
    return _Scanner(RowChecker(task, columns), signatures, lengths, trial).run(path, start, end)


class _Scanner:
    def __init__(
        self,
        checker: RowChecker,
        signatures: Signatures | None,
        lengths: Lengths | None,
        trial: TemplateTrial | None,
    ) -> None:
        self.checker = checker
        self.lengths = lengths
        self.trial = trial
        self.scan = Scan(signatures=signatures)
        make_lane = checker.main_kind.lane
        self.lane = make_lane(checker.names[checker.main], ()) if make_lane else None

    def run(self, path: Path, start: int, end: int | None) -> Scan:
        by_line = path.suffix.lower() in SPLITTABLE
        if not by_line:
            self.scan.lines = array("q")
        batches: Iterator[Batch] = json_lines(path, start, end) if by_line else read_batches(path)
        for batch in batches:
            for problem, line in batch.problems:
                self.scan.tally.add(problem, line)
            if batch.block or batch.lines:
                self._batch(batch)
        return self.scan

    def _batch(self, batch: Batch) -> None:
        scan, near = self.scan, self.scan.signatures is not None
        if self.lane is not None and batch.block is not None:
            result = self.lane.read_block(batch.block, texts=near)
            if isinstance(batch, LineBatch):
                batch.count = len(result.whole)
        else:
            result = LaneResult.of(len(batch.lines), near)
        not_rows = 0
        for index in result.left:
            whole, before, text, is_row = self._slow(batch.rows[index], batch.lines[index])
            result.whole[index], result.before[index] = whole, before
            if result.texts is not None:
                result.texts[index] = text
            not_rows += not is_row
        scan.rows += len(batch.lines) - not_rows
        scan.line_count = batch.lines[-1]
        scan.whole.frombytes(result.whole.tobytes())
        scan.before.frombytes(result.before.tobytes())
        if scan.lines is not None:
            scan.lines.extend(batch.lines)
        if scan.signatures is not None and result.texts is not None:
            scan.signatures.add(result.texts)
        if self.lengths is not None or self.trial is not None:
            self._see_as_the_model(batch, result)

    def _slow(self, raw: Any, line: int) -> tuple[int, int, RowText | None, bool]:
        """Whole hash, hash before the answer, text, and whether this is a row at all (an empty line isn't)."""
        if raw is None:
            return 0, 0, None, True
        problems, row = self.checker.check_json(raw) if isinstance(raw, bytes) else self.checker.check(raw)
        for problem in problems:
            self.scan.tally.add(problem, line)
        if row is None:
            return 0, 0, None, not any(problem.code == "empty-line" for problem in problems)
        if self.lane is not None and problems and all(problem.code == "unknown-column" for problem in problems):
            self._widen_lane({problem.values["column"] for problem in problems})
        self.scan.labels.add(self.checker.labels_of(row), line)
        return *self.checker.digests(row), self.checker.text(row), True

    def _widen_lane(self, columns: set[str]) -> None:
        """Let the lane pass over columns that were reported once, or every row that has them would be slow."""
        make_lane = self.checker.main_kind.lane
        if self.lane is None or make_lane is None or len(self.lane.ignored) > 64:
            return
        # msgspec takes no other names.
        plain = all(column.isprintable() and not {'"', "\\"} & set(column) for column in columns)
        if plain and not columns <= self.lane.ignored:
            self.lane = make_lane(self.checker.names[self.checker.main], self.lane.ignored | columns)

    def _see_as_the_model(self, batch: Batch, result: LaneResult) -> None:
        """Count the tokens of rows that may be long; try the template on the others, to see that it takes them."""
        lengths, places = self.lengths, array("q")
        rows: list[dict[str, Any]] = []
        for index, raw in enumerate(batch.rows):
            short = lengths is None or (isinstance(raw, bytes) and len(raw) + lengths.margin <= lengths.limit)
            if not result.whole[index] or (short and self.trial is None):
                continue
            shape = None
            if short and self.trial is not None and isinstance(raw, bytes):
                shape = self.trial.shape_of(raw)
                if self.trial.is_known(shape):
                    continue
            _, row = self.checker.check_json(raw) if isinstance(raw, bytes) else self.checker.check(raw)
            if row is None:
                continue
            if not short:
                places.append(batch.lines[index])
                rows.append(row)
            elif self.trial is not None:
                try:
                    self.trial.render(row)
                    self.trial.remember(shape)
                except AzftError as refusal:
                    self._refused(refusal, batch.lines[index])
        if lengths is not None and rows:
            self._count_lengths(lengths, rows, places)

    def _count_lengths(self, lengths: Lengths, rows: list[dict[str, Any]], places: array[int]) -> None:
        try:
            counts: list[int | AzftError] = list(lengths.count(rows))
        except AzftError:  # one row that the template refuses must not hide the others
            counts = [_count_one(lengths, row) for row in rows]
        for line, tokens in zip(places, counts, strict=True):
            if isinstance(tokens, AzftError):
                self._refused(tokens, line)
            elif tokens > lengths.limit:
                values = {"tokens": f"{tokens:,}", "limit": f"{lengths.limit:,}", "source": lengths.source}
                if lengths.fate:
                    self.scan.tally.add(Problem("long-row", {**values, "fate": lengths.fate}), line)
                else:
                    self.scan.tally.add(Problem("row-too-long", values), line)

    def _refused(self, refusal: AzftError, line: int) -> None:
        values = {"reason": refusal.message.rstrip("."), "fix": refusal.fix}
        self.scan.tally.add(Problem("not-renderable", values), line)


def _count_one(lengths: Lengths, row: dict[str, Any]) -> int | AzftError:
    try:
        return lengths.count([row])[0]
    except AzftError as error:
        return error
