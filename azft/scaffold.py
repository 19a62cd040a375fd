"""What `azft init` lays out: a commented recipe, its schema for editors, and example data to train on at once."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from azft.errors import UsageError
from azft.files import write_bytes
from azft.recipe_schema import SCHEMA_FILE, json_schema
from azft.tasks import TASKS

RECIPE_FILE = "recipe.yaml"

_MEANINGS = {
    RECIPE_FILE: "the recipe: every key explained",
    SCHEMA_FILE: "lets your editor complete and check it",
    "train.jsonl": "{count} rows to learn from",
    "validation.jsonl": "{count} rows to evaluate on while training",
    "test.jsonl": "{count} held-out rows for before and after",
}


@dataclass(frozen=True)
class Scaffold:
    """What was written: the folder, and the files in it in the order in which a person should look at them."""

    folder: Path
    files: tuple[Path, ...]

    @property
    def recipe(self) -> Path:
        """The recipe's path."""
        return self.folder / RECIPE_FILE

    def describe(self, file: Path) -> str:
        """What a file is, in a line."""
        meaning = _MEANINGS[file.name]
        return meaning.format(count=file.read_bytes().count(b"\n")) if "{count}" in meaning else meaning


def init(
    folder: Path | str = ".",
    *,
    task: str = "chat-completion",
    model: str | None = None,
    name: str | None = None,
    force: bool = False,
) -> Scaffold:
    """Write a recipe for `task` and example data into `folder`, which is made when it isn't there.

    `model` and `name` take the place of the example's. Raises `UsageError` when a file is already there and `force` is
    not given; nothing has been written then.
    """
    folder = Path(folder)
    if task not in TASKS:
        raise UsageError(f"There is no task `{task}`.", fix=f"This version knows: {', '.join(TASKS)}.")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder.", fix="Name a folder: azft init my-project")
    contents = _contents(task, model, name or _name_from(folder))
    taken = [file for file in contents if (folder / file).exists()]
    if taken and not force:
        raise UsageError(
            f"Already in {folder}: {', '.join(taken)}.", fix="Name another folder, or add --force to write over them."
        )
    for file, data in contents.items():
        write_bytes(folder / file, data)
    return Scaffold(folder, tuple(folder / file for file in contents))


def _contents(task: str, model: str | None, name: str | None) -> dict[str, bytes]:
    template = files("azft").joinpath("templates", task)
    recipe = template.joinpath(RECIPE_FILE).read_text(encoding="utf-8")
    if model is not None:
        recipe = _set(recipe, "model", model)
    if name is not None:
        recipe = _set(recipe, "name", name)
    schema = json.dumps(json_schema(), indent=2) + "\n"
    data = {file.name: file.read_bytes() for file in template.iterdir() if file.name.endswith(".jsonl")}
    order = ("train.jsonl", "validation.jsonl", "test.jsonl")
    return {
        RECIPE_FILE: recipe.encode(),
        SCHEMA_FILE: schema.encode(),
        **{file: data[file] for file in order if file in data},
    }


def _set(recipe: str, key: str, value: str) -> str:
    """Replace a top-level value; the comment behind it stays where it is."""
    safe = value if re.fullmatch(r"[A-Za-z][\w./-]*", value) else json.dumps(value)

    def line(match: re.Match[str]) -> str:
        return f"{key}: {safe} ".ljust(len(match.group(1))) + (match.group(2) or "")

    return re.sub(rf"(?m)^({key}: \S+ *)(#.*)?$", line, recipe, count=1)


def _name_from(folder: Path) -> str | None:
    """A run name from the folder's; None when nothing usable is left of it."""
    letters = unicodedata.normalize("NFKD", folder.resolve().name)  # accents become characters of their own
    plain = "".join(character for character in letters if not unicodedata.combining(character))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-_")[:64]
    return name or None
