"""What the README shows is what azft says: its recipes load, its outputs are real, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from azft.cli.group import COMMANDS
from azft.recipe_file import load_recipe
from tests.helpers.terminal import ROOT, azft

README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("text", RECIPES)
def test_its_recipes_are_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    assert load_recipe(file).recipe.task == "chat-completion"


def test_its_example_of_a_mistake_is_what_check_says(tmp_path: Path) -> None:
    text = RECIPES[-1].rstrip() + "\ntraining:\n  learning_rte: 2.0e-4\n  schedule: cosin\n"
    (tmp_path / "recipe.yaml").write_text(text)
    done = azft("check", "recipe.yaml", cwd=tmp_path)
    assert done.code == 2
    shown = README.split("$ azft check recipe.yaml\n", 1)[1].split("```", 1)[0]
    assert [line.rstrip() for line in shown.splitlines()] == [line.rstrip() for line in done.err.splitlines()]


def test_its_preview_is_the_examples(tmp_path: Path) -> None:
    azft("init", "quickstart", cwd=tmp_path)
    done = azft("preview", "recipe.yaml", "--rows", "1", cwd=tmp_path / "quickstart")
    shown = README.split("$ azft preview recipe.yaml --rows 1\n", 1)[1].split("\n\n", 1)[0]
    assert shown in done.out


def test_it_names_only_commands_that_exist() -> None:
    named = set(re.findall(r"\$ azft ([a-z][a-z-]*)", README)) | set(re.findall(r"`azft ([a-z][a-z-]*)", README))
    assert named
    assert named <= set(COMMANDS)


def test_its_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
