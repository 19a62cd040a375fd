"""How often each label stands in a file, counted while it is scanned, and what is wrong with the labels as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from azft.data.label_columns import label_number
from azft.data.rules import Problem
from azft.data.values import did_you_mean
from azft.tasks import TASKS
from azft.words import plural

IMBALANCE = 10
"""Rows of the commonest label for one of the rarest, from which on it is said."""
_MANY = 50
"""Different labels from which on two rows a label look like the wrong column."""
_MOST = 100_000
"""Different labels that are remembered; more are no labels."""
OUTSIDE = "O"
"""The tag of a word that belongs to no entity."""


@dataclass(slots=True)
class LabelCounts:
    """Of each label how often it was seen, and the line of the first one, counted from the start of the piece."""

    seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, labels: Iterable[str], line: int) -> None:
        """Count the labels of one row."""
        for label in labels:
            count, first = self.seen.get(label, (0, line))
            if count or len(self.seen) < _MOST:
                self.seen[label] = count + 1, first

    def merge(self, other: LabelCounts, lines_before: int) -> None:
        """Add the counts of the piece that follows, whose first line is line `lines_before` + 1 of the file."""
        for label, (count, line) in other.seen.items():
            before, first = self.seen.get(label, (0, line + lines_before))
            self.seen[label] = before + count, first


def label_problems(
    task: str, role: str, counts: LabelCounts, rows: int, trained: LabelCounts, named: Sequence[str]
) -> Iterator[tuple[Problem, int | None]]:
    """Problems of a file's labels, each with its line.

    `trained` are the training file's counts and `named` the labels that the recipe names, if it names any.
    """
    if not counts.seen:
        return
    if named:
        yield from _against_the_recipe(counts, named)
    if role != "train":
        yield from _against_training(counts, trained, named)
        return
    if named:
        yield from _unused(counts, named)
    yield from _alike(counts)
    if any(column.kind == "tags" for column in TASKS[task].columns):
        if counts.seen.keys() == {OUTSIDE}:
            yield Problem("no-entity"), None
    else:
        yield from _spread(counts.seen, rows)


def _against_the_recipe(counts: LabelCounts, named: Sequence[str]) -> Iterator[tuple[Problem, int | None]]:
    for label, (count, line) in counts.seen.items():
        if label_number(label, named) is None:
            otherwise = "Add it to data.labels, or correct the rows."
            values = {"label": label, "rows": plural(count, "row"), "fix": did_you_mean(label, tuple(named), otherwise)}
            yield Problem("unknown-label", values), line


def _against_training(
    counts: LabelCounts, trained: LabelCounts, named: Sequence[str]
) -> Iterator[tuple[Problem, int | None]]:
    """Labels that only this file has. Those that the recipe names have a place, and are reported with training."""
    for label, (count, line) in counts.seen.items():
        if label not in trained.seen and not named and trained.seen:
            yield Problem("label-not-trained", {"label": label, "rows": plural(count, "row")}), line


def _unused(counts: LabelCounts, named: Sequence[str]) -> Iterator[tuple[Problem, int | None]]:
    used = {label_number(label, named) for label in counts.seen}
    for number, label in enumerate(named):
        if number not in used:
            yield Problem("label-unused", {"label": label}), None


def _alike(counts: LabelCounts) -> Iterator[tuple[Problem, int | None]]:
    known: dict[str, str] = {}
    for label, (_, line) in counts.seen.items():
        plain = " ".join(label.casefold().split())
        if plain in known:
            yield Problem("labels-alike", {"one": known[plain], "other": label}), line
        known.setdefault(plain, label)


def _spread(seen: Mapping[str, tuple[int, int]], rows: int) -> Iterator[tuple[Problem, int | None]]:
    """Of a label for each row: is there anything to tell apart, and enough of each?"""
    if len(seen) == 1:
        ((label, (count, _)),) = seen.items()
        if count == rows:
            yield Problem("one-label", {"label": label}), None
        return
    if len(seen) > max(_MANY, rows / 2):
        yield Problem("many-labels", {"rows": f"{rows:,}", "labels": f"{len(seen):,}"}), None
        return
    rare, common = (choose(seen, key=lambda label: seen[label][0]) for choose in (min, max))
    few, many = seen[rare][0], seen[common][0]
    if many >= IMBALANCE * few:
        values = {"rare": rare, "few": f"{few:,}", "common": common, "many": f"{many:,}"}
        yield Problem("label-imbalance", values), None
