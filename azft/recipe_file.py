"""Reading a recipe file: YAML with line numbers, environment variables and overrides, and every problem at once.

What the keys mean is `azft.recipe`'s; this module only turns text into a `Recipe`, or into findings with their lines.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from azft.deepspeed_config import contradictions
from azft.errors import RecipeError, UsageError
from azft.findings import Finding, Severity
from azft.recipe import Recipe
from azft.recipe_errors import closest, explain
from azft.recipe_yaml import KeyPath, parse
from azft.tasks import TASKS
from azft.techniques import TECHNIQUES

ENVIRONMENT_PREFIX = "AZFT_RECIPE__"
"""`AZFT_RECIPE__TRAINING__EPOCHS=1` sets training.epochs, as `--set training.epochs=1` does; `--set` wins."""

MAX_BYTES = 1 << 20
_ROWS = {".jsonl", ".ndjson", ".csv", ".parquet"}
"""Files that hold data. JSON is YAML, and may hold a recipe."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class RecipeFile:
    """A recipe and where it was read from. Paths inside the recipe are relative to `folder`."""

    recipe: Recipe
    path: Path
    lines: Mapping[KeyPath, int]

    @property
    def folder(self) -> Path:
        """The folder that relative paths of the recipe start from."""
        return self.path.parent

    def resolve(self, path: Path) -> Path:
        """An absolute path for one that the recipe gives."""
        return (self.folder / path).resolve()

    def line_of(self, *key: str | int) -> int | None:
        """The line on which a key stands, or the nearest enclosing key that is written down."""
        return _nearest(self.lines, key)

    def _repr_html_(self) -> str:
        from azft.views_html.setup import show_recipe

        return show_recipe(self)


def load_recipe(
    path: Path | str,
    *,
    overrides: Iterable[str] | str = (),
    environment: Mapping[str, str] | None = None,
) -> RecipeFile:
    """Read and validate a recipe.

    `overrides` are `key.path=value` with YAML values; one may stand alone. `${NAME}` and `${NAME:-default}` inside
    values are taken from `environment` (the process's when None), which may also hold overrides named
    `AZFT_RECIPE__KEY__PATH`.

    Raises `RecipeError` with every finding, and `UsageError` for what is no path.
    """
    try:
        path = Path(path)
    except TypeError:
        found = type(path).__name__
        message = f"A recipe is the path of its file, or what load_recipe returned; this is of type {found}."
        raise UsageError(message) from None
    environment = os.environ if environment is None else environment
    reader = _Reader(path, environment)
    data = reader.parse(reader.read())
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX):
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            reader.override(data, key, environment[name], origin=name)
    for assignment in [overrides] if isinstance(overrides, str) else overrides:
        key, equals, value = assignment.partition("=")
        if equals:
            reader.override(data, key.strip(), value, origin=f"--set {key.strip()}")
        else:
            reader.problem("bad-override", f"`{assignment}` is not of the form key.path=value.", origin="--set")
    recipe = reader.validate(data)
    return RecipeFile(recipe=recipe, path=path.resolve(), lines=reader.lines)


class _Reader:
    """Collects findings while a file becomes a recipe; each step that can't go on raises them all."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self.path = path
        self.environment = environment
        self.lines: dict[KeyPath, int] = {}
        self.origins: dict[KeyPath, str] = {}
        """Where a value came from that the file doesn't hold: `--set training.epochs`, or a variable's name."""
        self.unset: set[KeyPath] = set()
        """Keys whose variable isn't set: reported once, and not again for the value they lack."""
        self.findings: list[Finding] = []

    def problem(
        self, code: str, message: str, fix: str = "", line: int | None = None, origin: str | None = None
    ) -> None:
        """Note one; `origin` names the override it came from instead of the file."""
        file = str(self.path) if origin is None else origin
        self.findings.append(Finding(f"recipe-{code}", Severity.ERROR, message, fix, file, line))

    def stop(self) -> NoReturn:
        """Raise what was found."""
        count = len(self.findings)
        ordered = sorted(self.findings, key=lambda finding: (finding.line or 0, finding.file or ""))
        raise RecipeError(f"{self.path}: the recipe has {count} error{'s' if count > 1 else ''}.", ordered)

    def read(self) -> str:
        """The file's text."""
        if self.path.suffix.lower() in _ROWS:
            self.problem(
                "not-a-recipe", "This is a file of rows, not a recipe.", "Name the recipe (.yaml) that reads it."
            )
            self.stop()
        try:
            with self.path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            self.problem("not-found", "There is no such file.", "Write one with: azft init")
        except IsADirectoryError:
            self.problem("not-found", "This is a folder, not a recipe file.", f"Name the file: {self.path}/recipe.yaml")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = error.strerror if isinstance(error, OSError) else error
            self.problem("unreadable", f"The file can't be read: {reason}.")
        else:
            if len(raw) <= MAX_BYTES:
                try:
                    return raw.decode("utf-8-sig")
                except UnicodeDecodeError as error:
                    line = raw[: error.start].count(b"\n") + 1
                    self.problem("not-utf8", f"Byte {error.start} is not UTF-8.", "Save the file as UTF-8.", line)
            else:
                self.problem("too-large", f"A recipe is at most {MAX_BYTES >> 20} MiB.", "Is this the data file?")
        return self.stop()

    def parse(self, text: str) -> dict[str, Any]:
        """The file's mapping, with environment variables filled in."""
        document = parse(text, self._interpolate)
        self.lines = document.lines
        for problem in document.problems:
            self.problem(problem.code, problem.message, problem.fix, problem.line)
        if isinstance(document.value, dict):
            return document.value
        if not self.findings:
            self.problem("not-a-mapping", "A recipe is a mapping of keys to values.", "Write one with: azft init", 1)
        return self.stop()

    def _interpolate(self, text: str, path: KeyPath, line: int) -> str:
        def substitute(match: re.Match[str]) -> str:
            name, default = match.groups()
            if name in self.environment:
                return self.environment[name]
            if default is None:
                self.unset.add(path)
                fix = f"Set it, or give a default: ${{{name}:-value}}"
                self.problem("unset-variable", f"Environment variable `{name}` is not set.", fix, line)
            return default or ""

        return _VARIABLE.sub(substitute, text)

    def override(self, data: dict[str, Any], key: str, text: str, *, origin: str) -> None:
        """Set one key of `data` to a YAML value."""
        parts = tuple(key.split("."))
        if not all(parts):
            self.problem("bad-override", "The key is empty.", "Write: key.path=value", origin=origin)
            return
        document = parse(text)
        for problem in document.problems:
            self.problem(problem.code, problem.message, problem.fix, origin=origin)
        if document.problems:
            return
        if len(parts) > 1 and parts[0] == "technique" and data.get("technique") is None:
            # A key of the technique is one of the default's, unless an override names another.
            data["technique"] = {"name": Recipe.model_fields["technique"].get_default(call_default_factory=True).name}
        if parts == ("technique", "name"):
            self._leave_to_the_other_technique(data, document.value)
        target = data
        for depth, part in enumerate(parts[:-1], start=1):
            child = target.get(part)
            if child is None:
                child = target[part] = {}
            if not isinstance(child, dict):
                section = ".".join(parts[:depth])
                message = f"`{section}` is no section, so it has no key `{parts[depth]}`."
                self.problem("bad-override", message, origin=origin)
                return
            target = child
        target[parts[-1]] = document.value
        for known in [known for known in self.lines if known[: len(parts)] == parts]:
            del self.lines[known]
        self.origins[parts] = origin

    def _leave_to_the_other_technique(self, data: dict[str, Any], name: object) -> None:
        """Keys in the file belong to the technique that it names; one named instead has only those that it knows."""
        section = data.get("technique")
        if not isinstance(section, dict) or section.get("name") == name:
            return
        known = {kind: set(TECHNIQUES[kind].model_fields) for kind in (section.get("name"), name) if kind in TECHNIQUES}
        if len(known) == 2:
            foreign = known[section["name"]] - known[name]
            for key in [key for key in section if key in foreign and ("technique", key) not in self.origins]:
                del section[key]

    def validate(self, data: dict[str, Any]) -> Recipe:
        """The recipe. Strict: JSON types only, so `epochs: true` is not 1."""
        recipe = None
        try:
            recipe = Recipe.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            for wrong in explain(error.errors(include_url=False)):
                if wrong.path not in self.unset:
                    self.problem(wrong.code, wrong.message, wrong.fix, *self._place(wrong.path, wrong.mentions))
        self._columns_of_task(data)
        if recipe is not None:
            recipe = self._deepspeed_config(recipe)
        if self.findings or recipe is None:
            self.stop()
        return recipe

    def _deepspeed_config(self, recipe: Recipe) -> Recipe:
        """The recipe with the user's DeepSpeed configuration in it, once it was compared with the other keys."""
        key, config = ("distribution", "config"), recipe.distribution.config
        if config is None:
            return recipe
        if isinstance(config, Path):
            path = self.path.parent / config
            try:
                config = json.loads(path.read_bytes())
            except OSError as error:
                message = f"DeepSpeed's configuration {path} can't be read: {error.strerror}."
                self.problem("deepspeed-config", message, "", *self._place(key))
                return recipe
            except ValueError as error:
                message = f"DeepSpeed's configuration {path} is not JSON: {error}."
                self.problem("deepspeed-config", message, "", *self._place(key))
                return recipe
            if not isinstance(config, dict):
                message = f"DeepSpeed's configuration {path} is no mapping of keys to values."
                self.problem("deepspeed-config", message, "", *self._place(key))
                return recipe
        training = recipe.training.model_copy(update={"learning_rate": recipe.learning_rate})
        for wrong in contradictions(config, training, recipe.distribution):
            self.problem("deepspeed-config", str(wrong), wrong.fix, *self._place((*key, *wrong.key.split("."))))
        distribution = recipe.distribution.model_copy(update={"config": config})
        return recipe.model_copy(update={"distribution": distribution})

    def _place(self, path: KeyPath, mentions: Iterable[KeyPath] = ()) -> tuple[int | None, str | None]:
        """The line of a key, or the override it came from; a key that the message mentions is the better place."""
        for key in (*mentions, path):
            if (origin := _longest(self.origins, key)) is not None:
                return None, origin
        if path not in self.lines:  # a section that only an override's key has begun
            below = (origin for key, origin in self.origins.items() if key[: len(path)] == path)
            if path and (origin := next(below, None)) is not None:
                return None, origin
        exact = next((self.lines[key] for key in mentions if key in self.lines), None)
        return exact or _nearest(self.lines, path), None

    def _columns_of_task(self, data: dict[str, Any]) -> None:
        """Keys of `data.columns` that the task doesn't have; looks at raw values, so that it needs no valid recipe."""
        task, section = data.get("task"), data.get("data")
        columns = section.get("columns") if isinstance(section, dict) else None
        if not isinstance(columns, dict) or not isinstance(task, str) or task not in TASKS:
            return
        known = [column.name for column in TASKS[task].columns]
        for name in columns:
            if name not in known:
                fix = closest(name, known) or f"Its columns are: {', '.join(known)}."
                place = self._place(("data", "columns", name))
                self.problem("unknown-column", f"Task {task} has no column `{name}`.", fix, *place)


def _prefixes(key: KeyPath) -> Iterator[KeyPath]:
    for length in range(len(key), -1, -1):
        yield key[:length]


def _nearest(lines: Mapping[KeyPath, int], key: KeyPath) -> int | None:
    return next((lines[prefix] for prefix in _prefixes(key) if prefix in lines), None)


def _longest(origins: Mapping[KeyPath, str], key: KeyPath) -> str | None:
    return next((origins[prefix] for prefix in _prefixes(key) if prefix in origins), None)
