"""`azft init --task text-classification` and `token-classification`: valid, without fault, and the script's own."""

from __future__ import annotations

from pathlib import Path

import pytest

import azft as package
from scripts.make_example_labels import COUNTS, TASKS, files


@pytest.mark.parametrize("task", TASKS)
def test_the_recipe_is_valid_and_its_rows_without_fault(task: str, tmp_path: Path) -> None:
    recipe = package.load_recipe(package.init(tmp_path / "mine", task=task).recipe)
    assert recipe.recipe.task == task
    report = package.check(recipe)
    assert [f.message for f in report.findings if f.severity != "info" and "stand-in" not in f.code] == []
    assert {file.role: file.rows for file in report.files} == COUNTS


@pytest.mark.parametrize("task", TASKS)
def test_the_rows_are_what_the_script_writes(task: str) -> None:
    folder = Path(package.__file__).parent / "templates" / task
    for name, content in files(task).items():
        assert (folder / name).read_text(encoding="utf-8") == content, "run scripts/make_example_labels.py"
