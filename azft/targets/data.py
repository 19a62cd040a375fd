"""The data against what the services read: format, size, the column's name, and rows to evaluate on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from azft.findings import Finding, Severity
from azft.recipe_file import RecipeFile
from azft.targets.table import finding, is_set
from azft.words import plural

MAAS_BYTES = 512 * 10**6
"""Serverless fine-tuning takes files below 512 MB (docs of 2026-02)."""
LEAST_ROWS = 10
"""Azure's fine-tuning refuses fewer training rows (docs of 2026-03)."""
_SYSTEM_SUFFIXES = {".jsonl", ".json", ".csv", ".tsv", ".parquet"}
ROLES = {
    "serverless-finetuning": ("train", "validation"),
    "finetuning-job": ("train", "validation"),
    "system-pipeline": ("train", "validation", "test"),
    "pipeline": ("train", "validation", "test"),
}
"""Which of the recipe's files a service reads; no other is uploaded."""


def data_findings(
    recipe_file: RecipeFile, sizes: Iterable[tuple[str, Path, int]], *, service: str
) -> Iterator[Finding]:
    """`sizes`: role, path and bytes of each file that the service reads."""
    if service == "pipeline":
        return
    recipe = recipe_file.recipe
    fine_tuning = service != "system-pipeline"
    whose = "The fine-tuning service" if fine_tuning else "The system pipeline"
    for role, path, count in sizes:
        suffix = path.suffix.casefold()
        if fine_tuning and suffix != ".jsonl":
            message = f"{whose} reads JSON lines, and {path.name} is {suffix or 'without a suffix'}."
            fix = "Write the rows as JSON lines, and name the file .jsonl."
            yield finding(recipe_file, f"data.{role}", "data-format", Severity.ERROR, message, fix)
        elif suffix not in _SYSTEM_SUFFIXES:
            message = f"{whose} doesn't know the format of {path.name}."
            yield finding(recipe_file, f"data.{role}", "data-format", Severity.ERROR, message, "Write JSON lines.")
        if service == "serverless-finetuning" and count >= MAAS_BYTES:
            message = f"{path.name} has {count / 1e6:,.0f} MB; serverless fine-tuning takes files below 512 MB."
            fix = "Take fewer rows, or machines of your own: --mode maap"
            yield finding(recipe_file, f"data.{role}", "data-too-large", Severity.ERROR, message, fix)
        rows = count_rows(path) if fine_tuning and role == "train" else None
        if rows is not None and rows < LEAST_ROWS:
            message = f"{path.name} has {plural(rows, 'row')}, and {whose[0].lower()}{whose[1:]} refuses fewer than "
            fix = "Add rows, or train on them with azft's own pipeline: --mode local, or maap with pipeline: azft."
            yield finding(recipe_file, "data.train", "few-rows", Severity.ERROR, f"{message}{LEAST_ROWS}.", fix)
    for column, named in recipe.data.columns.items():
        if named != column and (fine_tuning or recipe.task == "chat-completion"):
            message = f"{whose} reads the column `{column}`, and the file's is `{named}`."
            fix = "Rename the column in the file. --mode maap with pipeline: azft takes it as it is."
            yield finding(recipe_file, f"data.columns.{column}", "data-column", Severity.ERROR, message, fix)
    if recipe.data.validation is None:
        # Where the user asked for a share to be split off, the table of the service says that there is no such thing.
        asked = is_set(recipe, "data.validation_split")
        splits = "evaluates on nothing" if fine_tuning else "splits rows off by a rule of its own"
        severity = Severity.INFO if asked else Severity.WARNING
        message = f"There is no validation file, so {whose[0].lower()}{whose[1:]} {splits}."
        fix = "Name one: data.validation"
        yield finding(recipe_file, "data", "no-validation", severity, message, fix)
        if recipe.training.early_stopping_patience is not None and not fine_tuning:
            message = "Early stopping needs rows to evaluate on, and no validation file is named."
            yield finding(
                recipe_file,
                "training.early_stopping_patience",
                "stopping-without-validation",
                Severity.ERROR,
                message,
                fix,
            )


def count_rows(path: Path) -> int | None:
    """Rows of a JSON-lines file; None for other formats."""
    if path.suffix.casefold() != ".jsonl" or not path.is_file():
        return None
    with path.open("rb") as file:
        return sum(1 for line in file if not line.isspace())
