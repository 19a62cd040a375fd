"""`azft check`: every row of every file of a recipe, read once, and all that is wrong with them as findings.

Here the parts meet: a look at each file's head, the scan (in several processes where files are large), and the
comparison of rows. What can be wrong is `azft.data.rules`' table; what a row must look like, `azft.data.rows`'.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from azft.data import duplicates
from azft.data.column_names import resolve_columns
from azft.data.formats import SPLITTABLE, look_at
from azft.data.label_counts import label_problems
from azft.data.near_pairs import NearFile, near_duplicates
from azft.data.rules import PREFIX, RULES, Problem, finding
from azft.data.scan import LengthCounter, Lengths, Scan, scan_file
from azft.data.tally import Tally
from azft.data.template_trial import TemplateTrial
from azft.data.workers import Piece, scan_in_processes
from azft.files import sha256_file
from azft.findings import Finding, Severity, by_severity, has_errors
from azft.recipe import Recipe
from azft.recipe_file import RecipeFile
from azft.tasks import TASKS
from azft.words import plural

ROLES = ("train", "validation", "test")
_ROLE_NAMES = {"train": "training", "validation": "validation", "test": "test"}
LEAST_ROWS = 10
"""Fewest training rows that Azure OpenAI's and OpenAI's fine-tuning accept (their documentation, 2025)."""
PARALLEL_FROM = 64 << 20
"""Bytes of splittable files from which several processes are worth their start of 0.2 s."""
_PIECE = 32 << 20


@dataclass(frozen=True, slots=True)
class FileSummary:
    """One file that was checked. `counts` are exact, by finding code; `sha256` is "" when the file can't be read."""

    role: str
    path: Path
    rows: int
    bytes: int
    sha256: str
    counts: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "role": self.role,
            "path": str(self.path),
            "rows": self.rows,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "counts": dict(self.counts),
        }


@dataclass(frozen=True, slots=True)
class DataReport:
    """What the check found: errors first. Of each code and file the first five are listed, then how many more."""

    findings: tuple[Finding, ...]
    files: tuple[FileSummary, ...]

    @property
    def ok(self) -> bool:
        """Whether a run may start: no finding is an error."""
        return not has_errors(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "findings": [finding.to_dict() for finding in self.findings],
            "files": [summary.to_dict() for summary in self.files],
        }

    def _repr_html_(self) -> str:
        from azft.views_html.data import show_report

        return show_report(self)


def check_data(
    recipe_file: RecipeFile,
    *,
    near_duplicates: bool = True,
    processes: int | None = None,
    lengths: LengthCounter | None = None,
    trial: TemplateTrial | None = None,
    context_length: int | None = None,
) -> DataReport:
    """Check the files of a recipe.

    `lengths` counts the tokens of rows (None: lengths are not checked, and a finding says so); rows are held against
    training.max_length and the model's `context_length`, whichever is less. `trial` tries the model's chat template on
    rows that need not be counted.
    """
    recipe = recipe_file.recipe
    data = recipe.data
    given = {"train": data.train, "validation": data.validation, "test": data.test}
    files = {role: recipe_file.resolve(path) for role, path in given.items() if path is not None}
    limit, source = recipe.training.max_length, "training.max_length"
    if context_length is not None and context_length < limit:
        limit, source = context_length, "the model's context"
    columns, guesses = resolve_columns(recipe.task, data.columns, files["train"])
    report = check_files(
        recipe.task,
        columns,
        files,
        near=near_duplicates,
        processes=processes,
        lengths=None if lengths is None else Lengths(lengths, limit, source, _fate(recipe)),
        trial=trial,
        validation_split=None if data.validation else data.validation_split,
        labels=tuple(data.labels),
    )
    return replace(report, findings=tuple(by_severity([*report.findings, *guesses])))


def _fate(recipe: Recipe) -> str:
    """What becomes of a long row, and who says so; "" stops the run."""
    fate = TASKS[recipe.task].fate(recipe.long_rows)
    said = "" if recipe.data.long_rows is not None else f" ({recipe.task}'s default)"
    return f"is {fate}{said}" if fate else ""


def check_files(
    task: str,
    columns: Mapping[str, str],
    files: Mapping[str, Path],
    *,
    near: bool = True,
    processes: int | None = None,
    lengths: Lengths | None = None,
    trial: TemplateTrial | None = None,
    validation_split: float | None = None,
    labels: Sequence[str] = (),
) -> DataReport:
    """Check files by role (train, validation, test).

    `labels` are those that the recipe names. `processes`: None chooses by size. With `lengths` or `trial` one process
    scans, because tokenizers bring threads of their own.
    """
    checked = [_File(role, files[role]) for role in ROLES if role in files]
    for file in checked:
        if (problem := look_at(file.path)) is not None:
            file.tally.add(problem, None)
    sound = [file for file in checked if not file.tally.counts]
    # Hashing needs no interpreter lock: on a second core it costs no time of its own.
    with ThreadPoolExecutor(max_workers=1) as hasher:
        sums = {file.role: hasher.submit(sha256_file, file.path) for file in sound}
        _scan(sound, task, columns, near, processes, lengths, trial)
        for file in sound:
            file.sha256 = sums[file.role].result()
    for file in sound:
        _count_rows(file)
        found = label_problems(task, file.role, file.scan.labels, file.scan.rows, sound[0].scan.labels, labels)
        for problem, line in found:
            file.tally.add(problem, line)
    _compare(sound, task, columns, near)
    findings = [finding for file in checked for finding in file.tally.findings(file.shown)]
    if validation_split is not None and "validation" not in files:
        findings.append(finding(Problem("split-off", {"percent": f"{validation_split:.0%}"}), None, None))
    if lengths is None:
        findings.append(finding(Problem("lengths-unchecked"), None, None))
    return DataReport(tuple(by_severity(findings)), tuple(file.summary() for file in checked))


class _File:
    """A file while it is being checked."""

    def __init__(self, role: str, path: Path) -> None:
        self.role = role
        self.path = path
        self.shown = _shown_path(path)
        self.tally = Tally()
        self.scan = Scan()
        self.sha256 = ""

    @property
    def bytes(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    @property
    def hashes(self) -> duplicates.Hashes:
        return duplicates.Hashes.of(_ROLE_NAMES[self.role], self.scan)

    def summary(self) -> FileSummary:
        counts = {PREFIX + code: count for code, count in sorted(self.tally.counts.items())}
        return FileSummary(self.role, self.path, self.scan.rows, self.bytes, self.sha256, counts)

    def join(self, scans: list[Scan]) -> None:
        """Put the scans of the file's pieces together, in order."""
        first = scans[0]
        lines = rows = 0
        for piece in scans:
            self.tally.merge(piece.tally, lines)
            if piece is not first:
                first.labels.merge(piece.labels, lines)
            lines += piece.line_count
            rows += piece.rows
            if piece is not first:
                first.whole.extend(piece.whole)
                first.before.extend(piece.before)
                if first.signatures is not None and piece.signatures is not None:
                    first.signatures.extend(piece.signatures)
        first.line_count, first.rows = lines, rows
        self.scan = first


def _scan(
    files: list[_File],
    task: str,
    columns: Mapping[str, str],
    near: bool,
    processes: int | None,
    lengths: Lengths | None,
    trial: TemplateTrial | None,
) -> None:
    if processes is None:
        large = sum(file.bytes for file in files if file.path.suffix.lower() in SPLITTABLE) >= PARALLEL_FROM
        processes = len(os.sched_getaffinity(0)) if large and hasattr(os, "sched_getaffinity") else 1
    near_prompts = near and len(files) > 1
    if processes <= 1 or lengths is not None or trial is not None:
        for file in files:
            file.join(
                [
                    scan_file(
                        file.path, task, columns, near=near, near_prompts=near_prompts, lengths=lengths, trial=trial
                    )
                ]
            )
        return
    pieces = [
        (file, Piece(str(file.path), task, columns, start, end, near, near_prompts))
        for file in files
        for start, end in _ranges(file)
    ]
    scans = scan_in_processes([piece for _, piece in pieces], processes)
    for file in files:
        file.join([scan for (owner, _), scan in zip(pieces, scans, strict=True) if owner is file])


def _ranges(file: _File) -> Iterator[tuple[int, int | None]]:
    if file.path.suffix.lower() not in SPLITTABLE or file.bytes <= _PIECE:
        yield 0, None
        return
    for start in range(0, file.bytes, _PIECE):
        yield start, min(start + _PIECE, file.bytes)


def _count_rows(file: _File) -> None:
    if file.scan.rows == 0 and not any(RULES[code].severity is Severity.ERROR for code in file.tally.counts):
        file.tally.add(Problem("no-rows"), None)
    elif file.role == "train" and 0 < file.scan.rows < LEAST_ROWS:
        file.tally.add(Problem("few-rows", {"rows": plural(file.scan.rows, "row"), "least": LEAST_ROWS}), None)


def _compare(files: list[_File], task: str, columns: Mapping[str, str], near: bool) -> None:
    words = {"asked": TASKS[task].asked, "told": TASKS[task].told}

    def add(file: _File, problem: Problem, line: int | None) -> None:
        file.tally.add(Problem(problem.code, {**problem.values, **words}), line)

    different: list[_File] = []
    for file in files:
        twin = next((other for other in different if other.path.samefile(file.path)), None)
        if twin is not None:
            file.tally.add(Problem("same-file", {"other": _ROLE_NAMES[twin.role]}), None)
            continue
        for problem, row_line in duplicates.within(file.hashes):
            add(file, problem, row_line)
        for other in different:
            for problem, row_line in duplicates.between(file.hashes, other.hashes):
                add(file, problem, row_line)
        different.append(file)
    if near and different:
        known = [NearFile(f.path, f.hashes, f.scan.signatures) for f in different if f.scan.signatures is not None]
        for number, problem, line in near_duplicates(known, task, columns):
            add(different[number], problem, line)


def _shown_path(path: Path) -> str:
    """Relative to where the person stands, when the file is below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
