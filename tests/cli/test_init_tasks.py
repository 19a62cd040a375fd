"""`azft init --task ...`: each task's recipe is valid, its rows are without fault, and the script's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import azft as package
from azft.tasks import TASKS as TASK_TABLE
from azft.techniques import TECHNIQUES
from azft.training.abc_notation import parses_as_abc
from azft.training.svg_pictures import draws_something, parses_as_svg
from scripts.make_example_rows import COUNTS, TASKS, files


@pytest.mark.parametrize("task", TASKS)
def test_the_recipe_is_valid_and_its_rows_without_fault(task: str, tmp_path: Path) -> None:
    recipe = package.load_recipe(package.init(tmp_path / "mine", task=task).recipe)
    assert recipe.recipe.task == task
    report = package.check(recipe)
    assert [
        finding for finding in report.findings if finding.severity != "info" and "stand-in" not in finding.code
    ] == []
    assert {file.role: file.rows for file in report.files} == COUNTS


@pytest.mark.parametrize("task", TASKS)
def test_the_rows_are_what_the_script_writes(task: str) -> None:
    folder = Path(package.__file__).parent / "templates" / task
    for name, content in files(task).items():
        assert (folder / name).read_text(encoding="utf-8") == content, "run scripts/make_example_rows.py"


@pytest.mark.parametrize("task", TASKS)
def test_commented_out_values_are_the_defaults(task: str, tmp_path: Path) -> None:
    scaffold = package.init(tmp_path, task=task)
    recipe = package.load_recipe(scaffold.recipe).recipe
    text, plain = scaffold.recipe.read_text(), recipe.to_dict()
    assert plain["data"]["long_rows"] is None
    plain["data"]["long_rows"] = recipe.long_rows
    rates = re.findall(r"^  # learning_rate: (\S+)", text, re.MULTILINE)
    assert [float(rate) for rate in rates] == (
        [recipe.learning_rate] if plain["training"]["learning_rate"] is None else []
    )
    shown = {
        "technique.dropout": "# dropout: 0.0",
        "training.schedule": "# schedule: cosine",
        "training.warmup_ratio": "# warmup_ratio: 0.03",
        "training.precision": "# precision: auto",
        "training.seed": "# seed: 42",
        "data.long_rows": f"# long_rows: {TASK_TABLE[task].long_rows}",
        "data.validation_split": "# validation_split: 0.1",
        "distribution.strategy": "#   strategy: none",
    }
    for key, line in shown.items():
        section, name = key.split(".")
        assert line in text
        value = plain[section][name]
        assert line.endswith(f" {str(value).lower() if isinstance(value, bool) else value}"), key


@pytest.mark.parametrize("task", TASKS)
def test_the_comment_names_every_technique(task: str, tmp_path: Path) -> None:
    text = package.init(tmp_path, task=task).recipe.read_text()
    comment = text.partition("technique:")[2].partition("  rank:")[0]
    assert set(TECHNIQUES) <= set(re.findall(r"[a-z0-9-]+", comment))


def test_the_tunes_and_pictures_are_some() -> None:
    for task, good in (("music-generation", [parses_as_abc]), ("svg-generation", [parses_as_svg, draws_something])):
        rows = [json.loads(line) for content in files(task).values() for line in content.splitlines()]
        assert all(check(row["completion"]) for row in rows for check in good)
