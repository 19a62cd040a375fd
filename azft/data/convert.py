"""`azft convert`: a file of a foreign format becomes JSON lines of a task, whole or not at all.

What a format is, and how its rows become a task's, is the table in `azft.data.foreign`. Each row that comes out has
passed the data check, so what would be wrong with it is said with the line of the file that was given.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from azft.data.foreign import FORMATS, TARGETS, Format
from azft.data.foreign_chat import NotConvertibleError
from azft.data.foreign_files import conll_rows, picture_rows, squad_rows
from azft.data.readers import Fault, Row, read_items
from azft.data.recognise import OWN, check_names, choose, renamed
from azft.data.rows import RowChecker, is_error
from azft.data.rules import Problem
from azft.data.tally import Tally
from azft.data.values import did_you_mean
from azft.errors import FindingsError, NotFoundError, UsageError
from azft.files import atomic_path
from azft.findings import Finding, Severity, by_severity
from azft.tasks import TASKS

STREAM = "-"
"""Standard input or output in the place of a file."""
Items = Iterator[Row | Fault]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was converted. `skipped` rows were left out, for reasons that are in `findings` as warnings."""

    source: str
    target: str
    format: str
    task: str
    rows: int
    skipped: int
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "source": self.source,
            "target": self.target,
            "format": self.format,
            "task": self.task,
            "rows": self.rows,
            "skipped": self.skipped,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def convert(
    source: Path | str,
    target: Path | str,
    *,
    task: str | None = None,
    format: str | None = None,  # noqa: A002 - what it is called everywhere else
    columns: Mapping[str, str] | None = None,
    skip_errors: bool = False,
    force: bool = False,
) -> Conversion:
    """Convert a file to JSON lines of a task.

    `source` and `target` may be "-". `format` is a name of `FORMATS` (None: recognised by the first row), `task` one
    that it gives (None: its first). `columns` maps names of the format, or of the task, to the file's own.

    Raises `FindingsError` with every row that can't be converted, and writes nothing then, unless `skip_errors` leaves
    such rows out; `UsageError` for what makes no sense, and for a target that is there already without `force`.
    """
    names = dict(columns or {})
    for given, table, what in ((format, [*FORMATS, OWN], "format"), (task, list(TASKS), "task")):
        if given is not None and given not in table:
            raise UsageError(
                f"There is no {what} `{given}`.",
                fix=did_you_mean(given, tuple(table), f"There are: {', '.join(table)}."),
            )
    _may_write(target, force)
    with ExitStack() as stack:
        path, shown = Path(source), str(source)
        if shown == STREAM:
            path, shown = stack.enter_context(_spooled(sys.stdin.buffer, format)), "<stdin>"
        elif not path.exists():
            raise NotFoundError(f"There is no file {shown}.")
        elif path.is_dir():
            raise UsageError(f"{shown} is a folder.", fix="Name a file in it.")
        chosen = choose(path, shown, format, task, names)
        job = _Job(chosen, task or chosen.tasks[0], names)
        if str(target) == STREAM:
            holder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="azft-")))
            result = job.run(path, shown, holder / "rows.jsonl", skip_errors)
            with (holder / "rows.jsonl").open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
        else:
            with atomic_path(Path(target)) as temporary:
                result = job.run(path, shown, temporary, skip_errors)
    return replace(result, target=str(target))


class _Job:
    """One conversion: the format, the task, and the names of columns."""

    def __init__(self, form: Format, task: str, names: Mapping[str, str]) -> None:
        self.form = form
        self.task = task
        self.names = names
        self.make = TARGETS[form.form][task] if form.name != OWN else dict
        self.checker = RowChecker(task, {})
        self.tally = Tally()

    def run(self, path: Path, shown: str, target: Path, skip_errors: bool) -> Conversion:
        """Write the rows of `path` to `target`; raises once all of them have been looked at."""
        written = skipped = 0
        columns: dict[str, Any] = {}
        with target.open("wb") as out:
            for item in _items(self.form, path, self.names):
                if isinstance(item, Row):
                    columns |= item.data
                row = self._row(item)
                if row is None:
                    skipped += isinstance(item, Row) or is_error(item.problem)
                    continue
                out.write(orjson.dumps(row) + b"\n")
                written += 1
        if self.form.file in ("rows", "squad"):
            check_names(shown, self.names, columns)  # at the end, because JSON's rows may each have other columns
        if not written and not skipped:
            self.tally.add(Problem("no-rows"), None)
        found = by_severity(self.tally.findings(shown))
        if errors := [finding for finding in found if finding.severity is Severity.ERROR]:
            if not skip_errors or not written:
                which = f"{skipped:,} of {skipped + written:,} rows" if skipped else "No row"
                verb = "can't be converted" if skipped else "can be converted"
                message = f"{which} of {shown} {verb} from {self.form.name} to {self.task}; nothing was written."
                fix = "Correct them, or leave them out: --skip-errors" if written else ""
                raise FindingsError(message, errors, fix=fix)
            found = by_severity(
                replace(finding, severity=Severity.WARNING) if finding.severity is Severity.ERROR else finding
                for finding in found
            )
        return Conversion(shown, str(target), self.form.name, self.task, written, skipped, tuple(found))

    def _row(self, item: Row | Fault) -> dict[str, Any] | None:
        """The task's row, None for one with an error; its problems are counted."""
        if isinstance(item, Fault):
            self.tally.add(item.problem, item.line)
            return None
        given = renamed(item.data, self.names)
        try:
            row = self.make(self.form.read(given))
        except NotConvertibleError as error:
            values = {"format": self.form.name, "reason": error.reason, "fix": error.fix}
            self.tally.add(Problem("not-convertible", values), item.line)
            return None
        problems, good = self.checker.check(row, text_cells=self.form.name == OWN)
        for column in given.keys() - self.form.columns if self.form.name != OWN else ():
            if given[column] is not None:
                self.tally.add(Problem("left-out", {"column": column}), item.line)
        for problem in problems:
            self.tally.add(problem, item.line)
        return None if good is None else row


def _items(form: Format, path: Path, names: Mapping[str, str]) -> Items:
    if form.file == "squad":
        return squad_rows(path)
    if form.file == "conll":
        return conll_rows(path, **{name.removesuffix("s"): _number(name, names) for name in ("tokens", "tags")})
    if form.file == "pictures":
        return picture_rows(path, names)
    return read_items(path)


def _number(name: str, names: Mapping[str, str]) -> int | None:
    given = names.get(name)
    if given is not None and not given.lstrip("-").isdigit():
        raise UsageError(f"--columns {name}={given}: a CoNLL file's columns have numbers, from 1.")
    return int(given) if given else None


def _may_write(target: Path | str, force: bool) -> None:
    path = Path(target)
    if str(target) == STREAM:
        return
    if path.suffix.lower() not in {".jsonl", ".ndjson"}:
        raise UsageError(f"What is written are JSON lines, and {target} is not called so.", fix="Name it NAME.jsonl.")
    if path.is_dir():
        raise UsageError(f"{target} is a folder.", fix="Name a file in it.")
    if path.exists() and not force:
        raise UsageError(f"{target} is already there.", fix="Choose another name, or write over it with --force.")


@contextmanager
def _spooled(stream: BinaryIO, format_name: str | None) -> Iterator[Path]:
    """A stream as a file whose name ends like what it holds: readers look at a file's head, and then again."""
    with tempfile.TemporaryDirectory(prefix="azft-") as folder:
        plain = Path(folder) / "rows"
        with plain.open("wb") as file:
            shutil.copyfileobj(stream, file)
        with plain.open("rb") as file:
            lines = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n").splitlines()
        yield plain.rename(plain.with_suffix(_ending(lines[0].strip() if lines else b"", format_name)))


def _ending(line: bytes, format_name: str | None) -> str:
    """By the first line: an array begins with [, a nested object does not end on the line that it begins on."""
    if format_name == "conll":
        return ".conll"
    if line.startswith(b"["):
        return ".json"
    if not line.startswith(b"{"):
        return ".csv"
    return ".json" if format_name == "squad" or not line.endswith(b"}") else ".jsonl"
