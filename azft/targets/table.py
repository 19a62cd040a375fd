"""What the tables share: a key of the recipe becomes a parameter, goes elsewhere, or is not offered and says why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from azft.findings import Finding, Severity
from azft.recipe import Recipe
from azft.recipe_file import RecipeFile

Scalar = str | int | float


@dataclass(frozen=True)
class Setting:
    """What a row may need besides the recipe."""

    recipe: Recipe
    ranks: int = 1
    """GPUs that train together, over all machines."""
    rows: int | None = None
    """Training rows, where they could be counted."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The task's columns that the rows have, and the file's names of them."""


@dataclass(frozen=True)
class Told:
    """The key becomes these parameters of the service."""

    names: tuple[str, ...]
    values: Callable[[Setting], Mapping[str, Scalar]]
    note: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """The key goes into another part of the job or plan, or is judged by a rule of its own."""

    what: str


@dataclass(frozen=True)
class NotOffered:
    """The service has nothing for the key. Said as a warning when the user set it, else in one note with the others."""

    why: str
    fix: str = ""
    quiet: bool = False
    """Its default means nothing, so that there is nothing to say unless the user set it."""


TECHNIQUE_DETAILS = tuple(
    f"technique.{key}"
    for key in (
        "layers", "head", "use_rslora", "init", "rank_pattern", "alpha_pattern", "modules_to_save", "use_dora",
        "quantization", "double_quantization", "feedforward_modules", "virtual_tokens", "init_text", "projection",
        "hidden_size", "encoder",
    )
)  # fmt: skip
"""Keys of the technique for which none of Azure's own services has a parameter."""

Row = Told | Elsewhere | NotOffered
Table = Mapping[str, Row]


def told(name: str, value: Callable[[Setting], Scalar], note: str = "") -> Told:
    """A key that becomes one parameter."""
    return Told((name,), lambda setting: {name: value(setting)}, note)


def leaves(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """The dotted name of every key of the recipe that holds a value."""
    for name, info in model.model_fields.items():
        classes = _classes(info.annotation)
        if not classes:
            yield f"{prefix}{name}"
        seen: dict[str, None] = {}
        for one in classes:  # several for the technique
            seen |= dict.fromkeys(leaves(one, f"{prefix}{name}."))
        yield from seen


def _classes(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [one for part in get_args(annotation) for one in _classes(part)]
    return []


def is_set(recipe: Recipe, path: str) -> bool:
    """Whether the user gave the key a value, in the file, the environment or by `--set`."""
    node: Any = recipe
    for part in path.split("."):
        if not isinstance(node, BaseModel) or part not in node.model_fields_set:
            return False
        node = getattr(node, part)
    return True


def value_of(recipe: Recipe, path: str) -> Any:
    """The key's value; None where the recipe has no such section (another technique)."""
    node: Any = recipe
    for part in path.split("."):
        node = getattr(node, part, None)
    return node


def translate(table: Table, setting: Setting) -> dict[str, Scalar]:
    """Every parameter that the recipe's keys become."""
    parameters: dict[str, Scalar] = {}
    for row in table.values():
        if isinstance(row, Told):
            parameters |= row.values(setting)
    return parameters


def not_offered(table: Table, recipe_file: RecipeFile, service: str) -> Iterator[Finding]:
    """A warning for each key that the user set and the service lacks; one note for the defaults that it lacks."""
    recipe = recipe_file.recipe
    defaults = []
    for path, row in table.items():
        value = value_of(recipe, path)
        if not isinstance(row, NotOffered):
            continue
        if is_set(recipe, path):
            message = f"`{path}: {show(value)}` has no effect in {service}: {row.why}."
            yield finding(recipe_file, path, "not-offered", Severity.WARNING, message, row.fix)
        elif not row.quiet and value is not None:
            defaults.append(path.rpartition(".")[2])
    if defaults:
        message = f"In {service} Azure decides what azft would have defaults for: {', '.join(defaults)}."
        yield Finding("azure-service-decides", Severity.INFO, message, file=str(recipe_file.path))


def finding(recipe_file: RecipeFile, path: str, code: str, severity: Severity, message: str, fix: str = "") -> Finding:
    """A finding at a key of the recipe."""
    line = recipe_file.line_of(*path.split("."))
    return Finding(f"azure-{code}", severity, message, fix, str(recipe_file.path), line)


def task_not_offered(recipe_file: RecipeFile, why: str, known: Iterable[str]) -> Finding:
    """The error of a task that a service does not have."""
    message = f"`task: {recipe_file.recipe.task}` can't be had: {why}."
    fix = f"Take --mode maap with modes.maap.pipeline: azft. There are: {', '.join(known)}."
    return finding(recipe_file, "task", "task", Severity.ERROR, message, fix)


def show(value: Any) -> str:
    """A value as the recipe writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return plain(value) if isinstance(value, float) else str(value)


def plain(value: float) -> str:
    """A number without an exponent, because not everything that reads it knows one: 0.00002."""
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
