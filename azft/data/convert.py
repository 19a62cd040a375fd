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

from azft.data.column_names import guess_columns
from azft.data.columns import KINDS
from azft.data.foreign import FORMATS, TARGETS, Format
from azft.data.foreign_chat import NotConvertibleError, value_of
from azft.data.foreign_files import CONLL_ENDINGS, conll_rows, is_nested_json, squad_rows
from azft.data.formats import look_at
from azft.data.readers import Fault, Row, read_items
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
OWN = "columns"
"""The format of rows whose columns were all named with `columns`: they are the task's already."""

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
        chosen = _chosen(path, shown, format, task, names)
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
        with target.open("wb") as out:
            for item in _items(self.form, path, self.names):
                row = self._row(item)
                if row is None:
                    skipped += isinstance(item, Row) or is_error(item.problem)
                    continue
                out.write(orjson.dumps(row) + b"\n")
                written += 1
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
        given = _renamed(item.data, self.names)
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
    return read_items(path)


def _number(name: str, names: Mapping[str, str]) -> int | None:
    given = names.get(name)
    if given is not None and not given.lstrip("-").isdigit():
        raise UsageError(f"--columns {name}={given}: a CoNLL file's columns have numbers, from 1.")
    return int(given) if given else None


def _renamed(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The row with the format's names, where `names` says how the file calls them."""
    theirs = {file: name for name, file in names.items()}
    return {theirs.get(str(key), str(key)): value for key, value in row.items()}


def _chosen(path: Path, shown: str, format_name: str | None, task: str | None, names: Mapping[str, str]) -> Format:
    """The format that is asked for, or the one that the file shows; it must give the task."""
    form = _named(format_name, task, names) if format_name else _recognised(path, shown, task, names)
    if task is not None and form.name != OWN and task not in form.tasks:
        raise UsageError(
            f"Rows of {form.name} can't become rows of {task}.", fix=f"They can become: {', '.join(form.tasks)}."
        )
    return form


def _named(name: str, task: str | None, names: Mapping[str, str]) -> Format:
    return FORMATS[name] if name != OWN else _own(task, names)


def _own(task: str | None, names: Mapping[str, str]) -> Format:
    """Rows of which `names` names the task's columns: nothing but their names changes."""
    if task is None:
        raise UsageError("Which task? --from columns says what the task's columns are called.", fix="Add --task.")
    known = {column.name: KINDS[column.kind] for column in TASKS[task].columns}
    missing = [name for name in TASKS[task].form_of(names) if name not in names]
    if missing:
        fix = f"Add: {' '.join(f'--columns {name}=...' for name in missing)} ({task} has: {', '.join(known)})"
        raise UsageError(f"{task} also needs the column {missing[0]}.", fix=fix)

    def read(row: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: kind for name, kind in known.items() if name in names and row.get(name) not in (None, "")}
        return {name: row[name] if kind.is_text else value_of(row[name]) for name, kind in given.items()}

    return Format(OWN, "", (), frozenset(known), read, form=OWN)


def _recognised(path: Path, shown: str, task: str | None, names: Mapping[str, str]) -> Format:
    if path.suffix.lower() in CONLL_ENDINGS:
        return FORMATS["conll"]
    if is_nested_json(path):
        return FORMATS["squad"]
    if (problem := look_at(path)) is not None:
        tally = Tally()
        tally.add(problem, None)
        fix = "A file of tokens and tags: --from conll" if problem.code == "unknown-format" else ""
        raise FindingsError(f"{shown} can't be read.", tally.findings(shown), fix=fix)
    first = next((item.data for item in read_items(path) if isinstance(item, Row)), {})
    row = _renamed(first, names)
    fitting = [form for form in FORMATS.values() if form.fits(row)]
    if fitting:
        return next((form for form in fitting if task in form.tasks), fitting[0])
    if names and task is not None:
        return _own(task, names)
    if readable := _readers([task] if task else list(TASKS), first):
        best, guessed = readable[0]
        columns = ", ".join(f"{name}: {theirs}" for name, theirs in guessed.items())
        fix = f"Name the file in the recipe, with task: {best}" + (
            f" and data.columns: {{{columns}}}" if columns else ""
        )
        by = " and ".join(name for name, _ in readable)
        raise UsageError(f"{shown} needs no converting: its columns are read as they are by {by}.", fix=f"{fix}.")
    has = f"its first row has: {', '.join(list(first)[:12])}" if first else "it has no row that can be read"
    marks = ", ".join(f"{form.name} ({' and '.join(sorted(form.marks[0]))})" for form in FORMATS.values() if form.marks)
    raise UsageError(
        f"The format of {shown} was not recognised; {has}.",
        fix=f"Known are: {marks}. Say which with --from, and what their columns are called with --columns NAME=THEIRS.",
    )


def _readers(tasks: list[str], row: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """Tasks that read a row as it is, with the names to be given in the recipe; who reads most of it comes first."""
    found = []
    for task in tasks:
        guessed = guess_columns(task, {}, row)
        used = [column.name for column in TASKS[task].columns if column.name in row or column.name in guessed]
        if row and set(TASKS[task].form_of(used)) <= set(used):
            found.append((len(used), task, guessed))
    return [(task, guessed) for _, task, guessed in sorted(found, key=lambda item: -item[0])]


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
