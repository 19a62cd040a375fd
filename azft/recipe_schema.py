"""The recipe's JSON Schema, which editors use, and its reference page. Both come from the classes of `azft.recipe`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from azft.recipe import Recipe
from azft.tasks import TASKS

SCHEMA_FILE = "recipe.schema.json"
"""The name that the first line of a recipe refers to."""

_BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe file: unknown keys are refused, every key is described."""
    schema = Recipe.model_json_schema()
    # Editors underline `${VARIABLE}` in place of a number: their check of numbers is worth more than allowing it.
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "azft recipe", **schema}


def reference() -> str:
    """The reference page of the recipe, in Markdown."""
    schema = Recipe.model_json_schema()
    lines = [
        "# The recipe: every key",
        "",
        "<!-- Written by scripts/generate_docs.py from azft/recipe.py; a test fails when it is not current. -->",
        "",
        "A recipe is a YAML file. Unknown keys are errors; `azft check` names the line and what was probably meant.",
        "`azft init` writes a commented one, and `azft schema` prints the JSON Schema that editors complete from.",
        "",
        "Values can be changed without touching the file, in this order (the last wins):",
        "",
        "1. `${NAME}` or `${NAME:-default}` in a value becomes the environment variable, as if its text stood there",
        "   (inside `{...}` put the value in quotes);",
        "2. `AZFT_RECIPE__TRAINING__EPOCHS=1` in the environment sets `training.epochs`;",
        "3. `--set training.epochs=1` on the command line does the same.",
        "",
        "Scalars are read as YAML 1.2 says: `no` is text, `2e-4` is a number.",
        "",
        *_section("Top level", schema, schema),
    ]
    for name, value in schema["properties"].items():
        for title, definition in _definitions(name, value, schema):
            lines += _section(title, definition, schema)
    lines += ["## Tasks and their columns", ""]
    for task in TASKS.values():
        lines += [f"**{task.name}**: {task.title}. Reports {', '.join(task.metrics)}.", ""]
        lines += ["| column | required | holds |", "| --- | --- | --- |"]
        lines += [f"| `{c.name}` | {'yes' if c.required else 'no'} | {_escape(c.help)} |" for c in task.columns]
        lines += [""]
    return "\n".join(lines)


def _definitions(name: str, value: dict[str, Any], schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sections that stand under a key: itself, then what is nested in it; one a technique."""
    if "oneOf" in value:
        for option in value["oneOf"]:
            definition = _resolve(option, schema)
            yield f"`{name}`: {definition['properties']['name']['const']}", definition
        return
    definition = _resolve(value, schema)
    if "properties" not in definition:
        return
    nested = {key: child for key, child in definition["properties"].items() if "properties" in _resolve(child, schema)}
    if len(nested) < len(definition["properties"]):
        yield f"`{name}`", definition
    for key, child in nested.items():
        yield from _definitions(f"{name}.{key}", child, schema)


def _resolve(value: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    found: dict[str, Any] = schema["$defs"][value["$ref"].rpartition("/")[2]]
    return found


def _section(title: str, definition: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    lines = [f"## {title}", ""]
    if title != "Top level" and definition.get("description"):
        lines += [_escape(definition["description"]), ""]
    lines += ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    required = set(definition.get("required", ()))
    for key, value in definition["properties"].items():
        default = "**required**" if key in required else _default(value, schema)
        lines.append(f"| `{key}` | {_kind(value, schema)} | {default} | {_escape(_meaning(value, schema))} |")
    return [*lines, ""]


def _kind(value: dict[str, Any], schema: dict[str, Any]) -> str:
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return " ".join(f"`{choice}`" for choice in value["enum"])
    if "anyOf" in value:
        return " or ".join(_kind(option, schema) for option in value["anyOf"] if option.get("type") != "null")
    if "oneOf" in value or "properties" in _resolve(value, schema):
        return "section"
    kind = {
        "string": "text",
        "integer": "whole number",
        "boolean": "true or false",
        "array": "list",
        "object": "mapping",
    }
    name = "path" if value.get("format") == "path" else kind.get(value.get("type", ""), value.get("type", "any"))
    bounds = [f"{sign} {_number(value[key])}" for key, sign in _BOUNDS if key in value]
    return f"{name} {', '.join(bounds)}" if bounds else name


def _default(value: dict[str, Any], schema: dict[str, Any]) -> str:
    if "default" not in value or value["default"] in (None, ""):
        if "oneOf" in value:
            return "`{name: lora}`"
        return "" if "properties" not in _resolve(value, schema) else "its defaults"
    default = value["default"]
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{_number(default)}`" if isinstance(default, float) else f"`{default}`"


def _meaning(value: dict[str, Any], schema: dict[str, Any]) -> str:
    return str(value.get("description") or _resolve(value, schema).get("description", ""))


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
