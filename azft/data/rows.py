"""Checking one row with full diagnosis: the slow, thorough lane that every format and every kind of column shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from azft.data.columns import IGNORED, KINDS, ColumnKind, columns_of
from azft.data.foreign import Format, looks_like
from azft.data.json_faults import decode, duplicate_key
from azft.data.lane import RowText
from azft.data.row_hash import hash_bytes
from azft.data.rules import RULES, Problem
from azft.data.values import closest, did_you_mean, kind_of, strings_of
from azft.findings import Severity
from azft.tasks import TASKS, Column


class RowChecker:
    """Checks rows of one task. `columns` maps the task's column names to the file's, where they differ."""

    def __init__(self, task: str, columns: Mapping[str, str]) -> None:
        self.task = TASKS[task]
        self.columns = columns_of(task)
        self.names = {column.name: columns.get(column.name, column.name) for column in self.columns}
        self.kinds = {column.name: KINDS[column.kind] for column in self.columns}
        self.main = self.columns[0].name
        self._known = {name: column for column, name in self.names.items()}
        self._ignored = IGNORED.get(task, {})
        self._counted_keys = [b'"role"', b'"content"', *(f'"{name}"'.encode() for name in self.names.values())]

    @property
    def main_kind(self) -> ColumnKind:
        """The kind of the column that the model learns from."""
        return self.kinds[self.main]

    def check_json(self, raw: bytes) -> tuple[list[Problem], dict[str, Any] | None]:
        """Problems of a row given as JSON text, and its normalised columns when no problem is an error."""
        if not raw.strip():
            return [Problem("empty-line")], None
        value, fault = decode(raw)
        if fault is not None:
            return [fault], None
        if not isinstance(value, dict):
            return [Problem("not-object", {"type": kind_of(value), "column": self.names[self.main]})], None
        problems, row = self.check(value, text_cells=False)
        # A key given twice shows as more key texts than values; only then is the row read again.
        if any(raw.count(key) > 1 for key in self._counted_keys) and (key := duplicate_key(raw)) is not None:
            return [*problems, Problem("duplicate-key", {"key": key})], None
        return problems, row

    def check(self, data: Mapping[str, Any], *, text_cells: bool = True) -> tuple[list[Problem], dict[str, Any] | None]:
        """The same for a row as columns to values. With `text_cells`, a text may stand for the JSON value it holds."""
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        given = {column.name: data.get(self.names[column.name]) for column in self.columns}
        form = self.task.form_of(name for name, value in given.items() if value is not None)
        for column in self.columns:
            value = given[column.name]
            if value is None or (value == "" and column.name not in form):
                if column.name in form:
                    problems.append(self._missing(column, data))
                continue
            if text_cells and isinstance(value, str) and not self.kinds[column.name].is_text:
                value, fault = self._cell(column, value)
                if fault is not None:
                    problems.append(fault)
                    continue
            values[column.name] = value
        for name, value in values.items():
            problems += self.kinds[name].check(value, self.names[name], values)
        if not any(problem.code == "missing-column" for problem in problems):
            problems += self._other_columns(data)
        if any(is_error(problem) for problem in problems):
            return problems, None
        return problems, {name: self.kinds[name].normalise(value) for name, value in values.items()}

    def labels_of(self, row: Mapping[str, Any]) -> Iterator[str]:
        """The labels that a normalised row names, as often as it does."""
        for name, value in row.items():
            labels = self.kinds[name].labels
            if labels is not None:
                yield from labels(value)

    def digests(self, row: Mapping[str, Any]) -> tuple[int, int]:
        """Hashes of a normalised row and of what comes before the part that is learned; 0 where there is none."""
        kind = self.main_kind
        if kind.digests is None:
            prompt = self._before_target(row)
            return _hash(row), _hash(prompt) if prompt and len(prompt) < len(row) else 0
        whole, before = kind.digests(row[self.main])
        others = {name: value for name, value in row.items() if name != self.main}
        if others:
            rest = msgspec.json.encode(others, order="deterministic")
            whole, before = hash_bytes(whole, rest), hash_bytes(before, rest) if before else 0
        return whole, before

    def text(self, row: Mapping[str, Any]) -> RowText | None:
        """The text by which near-duplicates of a row are found."""
        if self.main_kind.text is not None:
            return self.main_kind.text(row[self.main])
        prompt = self._before_target(row)
        learned = {name: value for name, value in row.items() if name not in prompt}
        if not learned:  # nothing but text to learn
            prompt, learned = learned, prompt
        passage = {name: value for name, value in prompt.items() if name == self.task.passage}
        asked = {name: value for name, value in prompt.items() if name not in passage}
        return RowText("", *("\n".join(strings_of(list(part.values()))) for part in (asked, learned, passage)))

    def _before_target(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that are not learned; all of them where the row has no target."""
        target = self.task.target
        return {name: v for name, v in row.items() if name != target and self.kinds[name].labels is None}

    def _missing(self, column: Column, data: Mapping[str, Any]) -> Problem:
        name = self.names[column.name]
        if name in data:
            return Problem("missing-column", {"column": name, "found": "It is null.", "fix": "Write its value."})
        if (foreign := looks_like(data, self.task)) is not None:
            found = f"The row looks like the format {foreign.name}."
            return Problem("missing-column", {"column": name, "found": found, "fix": self._converting(foreign)})
        given = tuple(key for key in data if isinstance(key, str))[:20]
        found = f"The row has: {', '.join(given)}." if given else "The row is empty."
        said = f"data.columns: {{{column.name}: {closest(name, given) or '...'}}}"
        if name == column.name:
            fix = f"Name it `{name}`, or say its name in the recipe: {said}."
        elif column.name in data:
            fix = f"Take `{column.name}` out of data.columns: the row has it under its own name."
        else:
            fix = f"The recipe calls it so; correct it there: {said}."
        return Problem("missing-column", {"column": name, "found": found, "fix": fix})

    def _converting(self, foreign: Format) -> str:
        task = "" if foreign.tasks[0] == self.task.name else f" --task {self.task.name}"
        return f"Convert the file: azft convert FILE NEW.jsonl{task}"

    def _cell(self, column: Column, text: str) -> tuple[Any, Problem | None]:
        name = self.names[column.name]
        value, fault = decode(text.encode("utf-8", "surrogatepass"))
        if fault is None or fault.code != "not-json":
            return value, fault
        reason = {"column": name, "kind": self.kinds[column.name].title, "reason": fault.values["reason"]}
        return None, Problem("cell-not-json", reason)

    def _other_columns(self, data: Mapping[str, Any]) -> Iterator[Problem]:
        foreign = None if data.keys() <= self._known.keys() else looks_like(data, self.task)
        for name, value in data.items():
            if name in self._known:
                continue
            if name in self._ignored:
                if value is not None and not isinstance(value, self._ignored[name]):
                    values = {"where": f"Column `{name}`", "found": kind_of(value), "expected": "true or false"}
                    yield Problem("wrong-type", values)
                continue
            optional = tuple(self.names[c.name] for c in self.columns if self.names[c.name] not in data)
            fix = did_you_mean(str(name), optional, "Nothing to do, if it is not meant to be learned.")
            if foreign is not None and any(name in mark and mark & self._known.keys() for mark in foreign.marks):
                fix = f"The row looks like the format {foreign.name}. {self._converting(foreign)}"
            yield Problem("unknown-column", {"column": str(name), "fix": fix})


def _hash(value: Any) -> int:
    return hash_bytes(msgspec.json.encode(value, order="deterministic"))


def is_error(problem: Problem) -> bool:
    """Whether a problem makes a row unusable."""
    return RULES[problem.code].severity is Severity.ERROR
