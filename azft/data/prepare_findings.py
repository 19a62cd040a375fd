"""What the prepare step has to say about rows: the first few of each kind in full, and counts of the rest."""

from __future__ import annotations

from collections.abc import Iterator

from azft.data.documents import Counts, LongRows
from azft.findings import Finding, Severity
from azft.tasks import TASKS

SAMPLES = 5
"""Findings of one kind that are listed for a file."""
_LONGER = "Raise training.max_length, shorten them, or choose another data.long_rows."


class Problems:
    """Errors of single rows, of one file; memory does not grow with their number."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._samples: dict[str, list[Finding]] = {}
        self._counts: dict[str, int] = {}

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if it is among the first of its kind."""
        self._counts[finding.code] = self._counts.get(finding.code, 0) + 1
        samples = self._samples.setdefault(finding.code, [])
        if len(samples) < SAMPLES:
            samples.append(finding)

    def findings(self) -> Iterator[Finding]:
        """The kept ones, each kind followed by how many more there are."""
        for code, samples in self._samples.items():
            yield from samples
            if more := self._counts[code] - len(samples):
                message = f"... and {more:,} more of this kind ({self._counts[code]:,} in all)."
                yield Finding(code, samples[-1].severity, message, "", self.file, samples[-1].line)


def too_long(tokens: int, limit: int, file: str, line: int) -> Finding:
    """A row that is longer than `limit`, where data.long_rows is `error`."""
    return Finding(
        "data-row-too-long",
        Severity.ERROR,
        f"The row has {tokens:,} tokens, more than the {limit:,} that a sequence may have.",
        "Raise training.max_length, shorten the row, or set data.long_rows to drop, truncate or split.",
        file,
        line,
    )


def not_splittable(task: str, file: str | None = None, line: int | None = None) -> Finding:
    """data.long_rows is `split`, and a part of such a row would be a target without its source."""
    return Finding(
        "data-not-splittable",
        Severity.ERROR,
        f"data.long_rows is split, but the second half of a {task} row says nothing to this model without the first.",
        "Set data.long_rows to drop or truncate, or raise training.max_length.",
        file,
        line,
    )


def context_is_shorter(max_length: int, context: int) -> Finding:
    """The model can't attend to as many tokens as the recipe would put into a sequence."""
    return Finding(
        "data-context-length",
        Severity.INFO,
        f"training.max_length is {max_length:,}, but the model's context has {context:,} tokens: sequences end there.",
    )


def about_split(split: str, counts: Counts, file: str, limit: int, task: str, long_rows: LongRows) -> Iterator[Finding]:
    """What became of a split's rows, where that isn't obvious."""
    if counts.long_rows:
        fate = TASKS[task].fate(long_rows)
        if long_rows == "truncate" and counts.dropped_long:
            fate += f", but {counts.dropped_long:,} left out, which would be too long without its text too"
        yield Finding(
            "data-long-rows",
            Severity.WARNING,
            f"{counts.long_rows:,} of {counts.rows:,} rows for {split} have more than {limit:,} tokens: {fate}.",
            _LONGER,
            file,
        )
    if counts.dropped_unlabelled:
        yield Finding(
            "data-nothing-learned",
            Severity.WARNING,
            f"{counts.dropped_unlabelled:,} documents for {split} have no token in the loss and are left out.",
            "Their answers have weight 0, or were cut off.",
            file,
        )
    if counts.straddling:
        yield Finding(
            "data-straddling-token",
            Severity.WARNING,
            f"In {counts.straddling:,} rows for {split} the first token of an answer holds text of the template too: "
            "it is not in the loss.",
            "Take white space from the beginning of the answers.",
            file,
        )
    if not counts.documents:
        why, fix = "", "Add rows, or name a file in data.validation."
        if counts.rows and counts.dropped_long == counts.rows:
            why, fix = f": each has more than {limit:,} tokens", _LONGER
        elif counts.rows:
            why, fix = ": no token of them would be learned", "See what is learned of a row with: azft preview"
        yield Finding("data-no-documents", Severity.ERROR, f"No row is left for {split}{why}.", fix, file)
