"""The prepare step: files of rows become a dataset of token ids. Check, split, render, tokenize, mask, pack, write.

The same files and parameters give the same bytes, on any day and machine. It imports no torch and no transformers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from azft import __version__
from azft.data.check import DataReport, check_files
from azft.data.column_names import resolve_columns
from azft.data.dataset import read_manifest
from azft.data.dataset_writer import SplitWriter, write_dataset
from azft.data.documents import Counts
from azft.data.labels import told_of
from azft.data.prepare_findings import Problems, about_split, context_is_shorter, not_splittable, too_long
from azft.data.readers import Row, iter_valid_rows
from azft.data.renderers import Rendering, renderer_for
from azft.data.rendering import Renderer
from azft.data.split import choose_validation, place_of
from azft.data.template_probe import RefusalError
from azft.data.tokenizer import context_length, load_tokenizer
from azft.errors import FindingsError
from azft.extras import require_metrics
from azft.findings import Finding, Severity, by_severity, has_errors
from azft.parameters import PrepareParameters

BATCH_ROWS = 512
"""Rows encoded together: enough to keep every core busy, few enough to stay small in memory."""

Progress = Callable[[str], None]
_Item = TypeVar("_Item")


def prepare(
    parameters: PrepareParameters,
    *,
    model: Path,
    train: Path,
    validation: Path | None = None,
    test: Path | None = None,
    output: Path,
    progress: Progress | None = None,
) -> None:
    """Make the dataset folder `output` (see `azft.data.dataset`) from rows, for the tokenizer and template in `model`.

    `progress` gets one line for each thing done; None writes them to stdout. Raises `FindingsError` with all that is
    wrong with the rows, `RefusalError` for a chat template that can't be trained on, `MissingDependencyError` when
    evaluation will need a package that isn't here.
    """
    require_metrics(parameters.measures)
    say = progress or _write_line
    given = {"train": train, "validation": validation, "test": test}
    files = {split: path for split, path in given.items() if path is not None}
    tokenizer, context = load_tokenizer(model), context_length(model)
    limit = min(parameters.max_length, context or parameters.max_length)
    columns, findings = resolve_columns(parameters.task, parameters.columns, train)
    if context is not None and limit < parameters.max_length:
        findings.append(context_is_shorter(parameters.max_length, context))
    report = _check(parameters, columns, files)
    findings += report.findings
    _stop_on_errors(findings, say)
    told = told_of(parameters.task, columns, train, parameters.labels)
    rendering = Rendering(parameters.prompt, told.labels, limit, told.several, parameters.resolution)
    renderer = renderer_for(parameters.task, tokenizer, rendering)
    findings += renderer.findings
    if parameters.long_rows == "split" and not renderer.splits:
        findings.append(not_splittable(parameters.task))
        _stop_on_errors(findings, say)

    share = None if validation else parameters.validation_split
    splits = [split for split in given if split in files or (split == "validation" and share)]
    with write_dataset(
        output,
        splits=splits,
        vocab_size=renderer.tokenizer.vocab_size,
        max_length=limit,
        packing=parameters.packing and renderer.packs,
        tokenizer=renderer.tokenizer.fingerprint,
        objective=renderer.objective,
        target_width=renderer.target_width,
        labels=renderer.labels,
        documents_per_row=renderer.documents_per_row,
        pixels=renderer.pixels,
    ) as writer:
        job = _Job(parameters, renderer, limit, writer.splits)
        for split, path in files.items():
            rows = iter_valid_rows(path, parameters.task, columns)
            if split == "train" and share:
                findings += job.add(path, _split_off(rows, share, parameters.seed))
            else:
                findings += job.add(path, ((row, split) for row in rows))
        for split, counts in job.counts.items():
            findings += about_split(
                split, counts, files.get(split, train).name, limit, parameters.task, parameters.long_rows
            )
        _stop_on_errors(findings, say)
        writer.findings = by_severity(findings)
        writer.details = {
            "azft": __version__,
            "counts": {split: counts.to_dict() for split, counts in job.counts.items()},
            "files": {summary.role: {"rows": summary.rows, "sha256": summary.sha256} for summary in report.files},
            "parameters": parameters.model_dump(mode="json"),
        }
    for line in [*map(str, by_severity(findings)), *_summary(read_manifest(output), job.counts)]:
        say(line)


def _check(parameters: PrepareParameters, columns: Mapping[str, str], files: Mapping[str, Path]) -> DataReport:
    """The data check once more, because the files may have changed.

    Lengths are counted by this step anyway; near-duplicates stop nothing, and whoever ran `azft check` has seen them.
    """
    share = None if "validation" in files else parameters.validation_split
    report = check_files(parameters.task, columns, files, near=False, validation_split=share, labels=parameters.labels)
    findings = (finding for finding in report.findings if finding.code != "data-lengths-unchecked")
    return replace(report, findings=tuple(_by_name(finding) for finding in findings))


def _by_name(finding: Finding) -> Finding:
    """The finding with its file's name alone: where the file lies must not change the dataset's bytes."""
    return finding if finding.file is None else replace(finding, file=Path(finding.file).name)


def _split_off(rows: Iterator[Row], share: float, seed: int) -> Iterator[tuple[Row, str]]:
    """Training rows with their split. Rows wait until both sides have one: only then is it sure where each belongs."""
    waiting: list[Row] = []
    places: list[float] = []
    least, most = 1.0, 0.0
    for row in rows:
        waiting.append(row)
        places.append(place := place_of(row.data, seed=seed))
        least, most = min(least, place), max(most, place)
        if least < share <= most:
            yield from _named(waiting, (place < share for place in places))
            waiting, places = [], []
    yield from _named(waiting, choose_validation(places, share=share))


def _named(rows: list[Row], to_validation: Iterable[bool]) -> Iterator[tuple[Row, str]]:
    return ((row, "validation" if chosen else "train") for row, chosen in zip(rows, to_validation, strict=True))


def _batches(items: Iterator[_Item]) -> Iterator[list[_Item]]:
    while batch := list(islice(items, BATCH_ROWS)):
        yield batch


class _Job:
    """Renders rows into the splits of a dataset and counts what becomes of them."""

    def __init__(
        self, parameters: PrepareParameters, renderer: Renderer, limit: int, writers: Mapping[str, SplitWriter]
    ) -> None:
        self.parameters = parameters
        self.renderer = renderer
        self.limit = limit
        self.writers = writers
        self.counts = {split: Counts() for split in writers}

    def add(self, path: Path, rows: Iterator[tuple[Row, str]]) -> list[Finding]:
        """Add rows of a file, each with its split; errors about rows are returned and not raised."""
        problems = Problems(path.name)
        for batch, results in self.renderer.render_batches(_batches(rows), lambda item: item[0].data):
            for (row, split), rendered in zip(batch, results, strict=True):
                if isinstance(rendered, RefusalError):
                    problems.add(rendered.finding(path.name, row.line))
                elif self.parameters.long_rows == "error" and rendered.longest > self.limit:
                    problems.add(too_long(rendered.longest, self.limit, path.name, row.line))
                else:
                    counts, long_rows = self.counts[split], self.parameters.long_rows
                    for piece in self.renderer.documents(rendered, self.limit, long_rows, counts):
                        self.writers[split].add(*piece)
        return list(problems.findings())


def _stop_on_errors(findings: list[Finding], say: Progress) -> None:
    if has_errors(findings):
        ordered = by_severity(findings)
        for finding in ordered:
            say(str(finding))
        first, errors = ordered[0], sum(finding.severity is Severity.ERROR for finding in ordered)
        where = f" {first.where}:" if first.where else ""
        more = f" It is the first of {errors} errors." if errors > 1 else ""
        raise FindingsError(f"The data can't be trained on.{where} {first.message}{more}", ordered, fix=first.fix)


def _summary(manifest: Mapping[str, Any], counts: Mapping[str, Counts]) -> Iterator[str]:
    for split, count in counts.items():
        one = manifest["splits"][split]
        room = one["sequences"] * manifest["max_length"]
        full = f", {one['tokens'] / room:.1%} full" if manifest["packing"] and room else ""
        dropped = f" ({count.dropped_long:,} too long, left out)" if count.dropped_long else ""
        yield (
            f"{split}: {count.rows:,} rows{dropped} -> {one['documents']:,} documents, "
            f"{one['tokens']:,} tokens, {one['loss_tokens']:,} in the loss; "
            f"{one['sequences']:,} sequences of at most {manifest['max_length']:,}{full}"
        )


def _write_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
