"""Reading a recipe file: YAML with line numbers, environment variables and overrides, and every problem at once.

What the keys mean is `azft.recipe`'s; this module only turns text into a `Recipe`, or into findings with their lines.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from azft.errors import RecipeError
from azft.findings import Finding, Severity
from azft.recipe import Recipe
from azft.techniques import TECHNIQUES

ENVIRONMENT_PREFIX = "AZFT_RECIPE__"
"""`AZFT_RECIPE__TRAINING__EPOCHS=1` sets training.epochs, as `--set training.epochs=1` does; `--set` wins."""

KeyPath = tuple[str | int, ...]
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_MAX_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: `on`, `no` and `yes` are text, and 2e-4 is a number (YAML 1.1 has both the other way)."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(  # type: ignore[no-untyped-call]
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(  # type: ignore[no-untyped-call]
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."),
)


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
        return _line_of(self.lines, key)


def load_recipe(
    path: Path | str,
    *,
    overrides: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
) -> RecipeFile:
    """Read and validate a recipe.

    `overrides` are `key.path=value` with YAML values. `${NAME}` and `${NAME:-default}` inside text values are taken from
    `environment` (the process's when None), which may also hold overrides named `AZFT_RECIPE__KEY__PATH`.

    Raises `RecipeError` with every finding.
    """
    path = Path(path)
    environment = os.environ if environment is None else environment
    reader = _Reader(str(path))
    text = reader.read(path)
    data = reader.parse(text)
    data = reader.interpolate(data, environment)
    for assignment in _environment_overrides(environment):
        reader.override(data, assignment, origin="environment variable")
    for assignment in overrides:
        reader.override(data, assignment, origin="--set")
    recipe = reader.validate(data)
    reader.stop_on_findings()
    assert recipe is not None  # validate() leaves a finding whenever it returns None
    return RecipeFile(recipe=recipe, path=path.resolve(), lines=reader.lines)


class _Reader:
    """Collects findings while a file becomes a recipe."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self.findings: list[Finding] = []

    def problem(self, code: str, message: str, fix: str = "", line: int | None = None) -> None:
        self.findings.append(Finding(f"recipe-{code}", Severity.ERROR, message, fix, self.file, line))

    def stop_on_findings(self) -> None:
        if self.findings:
            count = len(self.findings)
            ordered = sorted(self.findings, key=lambda f: f.line or 0)
            raise RecipeError(f"{self.file}: the recipe has {count} error{'s' if count > 1 else ''}.", ordered)

    def read(self, path: Path) -> str:
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            self.problem("not-found", "There is no such file.", "Write one with: azft init")
        except IsADirectoryError:
            self.problem("not-found", "This is a folder, not a recipe file.", f"Name the file: {path / 'recipe.yaml'}")
        except OSError as error:
            self.problem("unreadable", f"The file can't be read: {error.strerror}.")
        else:
            if len(raw) > _MAX_BYTES:
                self.problem("too-large", f"A recipe is at most {_MAX_BYTES >> 20} MiB; this file has {len(raw):,} bytes.")
            else:
                try:
                    return raw.decode("utf-8-sig")
                except UnicodeDecodeError as error:
                    line = raw[: error.start].count(b"\n") + 1
                    self.problem("not-utf8", f"Byte {error.start} is not UTF-8.", "Save the file as UTF-8.", line)
        self.stop_on_findings()
        raise AssertionError("unreachable")

    def parse(self, text: str) -> dict[str, Any]:
        value: Any = None
        try:
            loader = _Loader(text)
            try:
                node = loader.get_single_node()
                if node is not None:
                    value = self._construct(loader, node, (), depth=0)
            finally:
                loader.dispose()  # type: ignore[no-untyped-call]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else None
            problem = (error.problem or str(error)).strip()
            self.problem("not-yaml", f"Not valid YAML: {problem}.", "Check the indentation and quotes on this line.", line)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            self.problem("not-yaml", f"Not valid YAML: {str(error).splitlines()[0] if str(error) else 'nested too deeply'}.")
        else:
            if not isinstance(value, dict):
                self.problem("not-a-mapping", "A recipe is a mapping of keys to values.", "See: azft init", 1)
        self.stop_on_findings()
        assert isinstance(value, dict)
        return value

    def _construct(self, loader: _Loader, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        """Build the value and note each key's line; duplicate keys, aliases bombs and deep nesting become findings."""
        if depth > 20:
            raise yaml.MarkedYAMLError(problem="nested more than 20 levels deep", problem_mark=node.start_mark)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                line = key_node.start_mark.line + 1
                if not isinstance(key_node, yaml.ScalarNode):
                    raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=key_node.start_mark)
                key = key_node.value
                if key in result:
                    first = self.lines[(*path, key)]
                    self.problem(
                        "duplicate-key", f"Key `{key}` is given twice (first on line {first}).", "Keep one of them.", line
                    )
                self.lines[(*path, key)] = line
                result[key] = self._construct(loader, value_node, (*path, key), depth + 1)
            return result
        if isinstance(node, yaml.SequenceNode):
            return [self._construct(loader, child, (*path, i), depth + 1) for i, child in enumerate(node.value)]
        return loader.construct_object(node)  # type: ignore[no-untyped-call]

    def interpolate(self, value: Any, environment: Mapping[str, str], path: KeyPath = ()) -> Any:
        if isinstance(value, dict):
            return {key: self.interpolate(child, environment, (*path, key)) for key, child in value.items()}
        if isinstance(value, list):
            return [self.interpolate(child, environment, (*path, i)) for i, child in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value

        def substitute(match: re.Match[str]) -> str:
            name, default = match.group(1), match.group(2)
            if name in environment:
                return environment[name]
            if default is not None:
                return default
            self.problem(
                "unset-variable",
                f"Environment variable `{name}` is not set.",
                f"Set it, or give a default: ${{{name}:-value}}",
                _line_of(self.lines, path),
            )
            return ""

        return _VARIABLE.sub(substitute, value)

    def override(self, data: dict[str, Any], assignment: str, *, origin: str) -> None:
        key, separator, text = assignment.partition("=")
        parts = key.strip().split(".")
        if not separator or not all(parts):
            self.problem("bad-override", f"{origin} `{assignment}` is not of the form key.path=value.")
            return
        try:
            value = yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
        except yaml.YAMLError:
            value = text
        target = data
        for part in parts[:-1]:
            child = target.get(part)
            if not isinstance(child, dict):
                child = target[part] = {}
            target = child
        target[parts[-1]] = value
        for length in range(1, len(parts) + 1):
            self.lines.pop(tuple(parts[:length]), None) if length == len(parts) else None

    def validate(self, data: dict[str, Any]) -> Recipe | None:
        try:
            return Recipe.model_validate(data)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._explain(detail)
            return None

    def _explain(self, detail: ErrorDetails) -> None:
        path = tuple(part for part in detail["loc"] if part not in TECHNIQUES or part == detail["loc"][-1] and len(detail["loc"]) == 1)
        line = _line_of(self.lines, path)
        name = ".".join(str(part) for part in path) or "the recipe"
        kind = detail["type"]
        if kind == "extra_forbidden":
            key = str(path[-1])
            self.problem("unknown-key", f"Unknown key `{name}`.", _did_you_mean(key, path[:-1], detail), line)
        elif kind == "missing":
            self.problem("missing-key", f"Key `{name}` is missing.", _help_of(path), line)
        elif kind in {"union_tag_invalid", "union_tag_not_found"}:
            given = detail.get("ctx", {}).get("tag")
            known = ", ".join(TECHNIQUES)
            what = f"Unknown technique `{given}`." if given else "Key `technique.name` is missing."
            self.problem("bad-value", what, _closest(str(given), TECHNIQUES) or f"This version knows: {known}.", line)
        else:
            message = detail["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(detail["input"], dict) else f", not {_short(detail['input'])}"
            fix = ""
            allowed = detail.get("ctx", {}).get("expected")
            if allowed and isinstance(detail["input"], str):
                fix = _closest(detail["input"], re.findall(r"'([^']+)'", str(allowed)))
            elif name == "task" and isinstance(detail["input"], str):
                from azft.tasks import TASKS

                fix, shown = _closest(detail["input"], TASKS), ""
            self.problem("bad-value", f"`{name}`: {message[:1].lower()}{message[1:]}{shown}.", fix, line)


def _line_of(lines: Mapping[KeyPath, int], key: KeyPath) -> int | None:
    for length in range(len(key), -1, -1):
        if key[:length] in lines:
            return lines[key[:length]]
    return None


def _environment_overrides(environment: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX):
            yield name[len(ENVIRONMENT_PREFIX) :].lower().replace("__", ".") + "=" + environment[name]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _closest(word: str, candidates: Iterable[str]) -> str:
    match = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f"Did you mean `{match[0]}`?" if match else ""


def _models(path: KeyPath) -> list[type[BaseModel]]:
    """The model classes that can stand at a path; several for a technique, none for a path that isn't a section."""
    models: list[type[BaseModel]] = [Recipe]
    for part in path:
        if part == "technique":
            models = list(TECHNIQUES.values())
            continue
        fields = [model.model_fields[str(part)].annotation for model in models if str(part) in model.model_fields]
        models = [field for field in fields if isinstance(field, type) and issubclass(field, BaseModel)]
    return models


def _all_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if name == "technique":
            for technique in TECHNIQUES.values():
                yield from (f"technique.{key}" for key in technique.model_fields)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _all_keys(field.annotation, f"{prefix}{name}.")


def _did_you_mean(key: str, parent: KeyPath, detail: ErrorDetails) -> str:
    siblings = {name for model in _models(parent) for name in model.model_fields}
    if close := _closest(key, siblings):
        return close
    elsewhere = {full.rpartition(".")[2]: full for full in _all_keys()}
    match = difflib.get_close_matches(key, list(elsewhere), n=1, cutoff=0.75)
    if match:
        return f"Did you mean `{elsewhere[match[0]]}`?"
    return f"Known here: {', '.join(sorted(siblings))}." if siblings else ""


def _help_of(path: KeyPath) -> str:
    for model in _models(path[:-1]):
        field = model.model_fields.get(str(path[-1]))
        if field is not None and field.description:
            return field.description
    return ""
