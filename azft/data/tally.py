"""Counting problems while a file streams by: exact counts, and the first few of each code as examples.

Memory does not grow with the number of problems. Tallies of neighbouring pieces of a file are merged in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from azft.data.rules import RULES, Problem, finding, shown_values
from azft.findings import Finding

SAMPLES = 5
"""Examples shown of each code in each file."""
ONCE = {"unknown-column": "column", "left-out": "column", "crlf": None}
"""Codes reported once a file, or once for each value of a key, and not for each row."""


@dataclass(slots=True)
class Tally:
    """Problems of one file, or of a piece of it with lines counted from the piece's start."""

    counts: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[tuple[int | None, dict[str, str]]]] = field(default_factory=dict)

    def add(self, problem: Problem, line: int | None) -> None:
        """Count one problem, and keep it if it is among the first of its code."""
        code = problem.code
        samples = self.samples.setdefault(code, [])
        if code in ONCE:
            key, new = ONCE[code], shown_values(problem)
            if any(key is None or values[key] == new[key] for _, values in samples):
                return
        self.counts[code] = self.counts.get(code, 0) + 1
        if len(samples) < SAMPLES:
            samples.append((line, shown_values(problem)))

    def merge(self, other: Tally, lines_before: int) -> None:
        """Add the tally of the piece that follows, whose first line is line `lines_before` + 1 of the file."""
        for code, count in other.counts.items():
            moved = [(line if line is None else line + lines_before, values) for line, values in other.samples[code]]
            if code in ONCE:
                for line, values in moved:
                    self.add(Problem(code, values), line)
                continue
            samples = self.samples.setdefault(code, [])
            samples += moved[: SAMPLES - len(samples)]
            self.counts[code] = self.counts.get(code, 0) + count

    def findings(self, file: str) -> list[Finding]:
        """The examples as findings, each code followed by how many more there are."""
        result = []
        for code, samples in self.samples.items():
            result += [finding(Problem(code, values), file, line) for line, values in samples]
            more = self.counts[code] - len(samples)
            if more:
                rule = RULES[code]
                example = result[-1]
                # The last example's line keeps the summary beside it however findings are sorted.
                message = f"... and {more:,} more of this kind ({self.counts[code]:,} in all)."
                result.append(Finding(example.code, rule.severity, message, "", file, example.line))
        return result

    def has(self, *codes: str) -> bool:
        """Whether any of the codes was seen."""
        return any(code in self.counts for code in codes)
