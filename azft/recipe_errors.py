"""What pydantic says about a recipe, in words for its writer: which key, what is wrong, what was probably meant.

Only the wording; where a key stands is `azft.recipe_file`'s.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from azft.recipe import Recipe
from azft.recipe_yaml import KeyPath
from azft.tasks import TASKS
from azft.techniques import TECHNIQUES

_SHOULD_BE = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping (keys below it, indented)",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "a mapping (keys below it, indented)",
    "model_type": "a mapping (keys below it, indented)",
    "path_type": "a path",
    "string_type": "text",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One problem of a recipe. `mentions` are key paths that the message speaks of, the likeliest place first."""

    code: str
    path: KeyPath
    message: str
    fix: str = ""
    mentions: tuple[KeyPath, ...] = ()


def explain(details: Iterable[ErrorDetails]) -> list[Explanation]:
    """One explanation a key: the alternatives of a union, which pydantic lists apart, are put together."""
    by_path: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in details:
        by_path.setdefault(_key_path(detail["loc"]), []).append(detail)
    return [_explain(path, alternatives) for path, alternatives in by_path.items()]


def _key_path(location: tuple[int | str, ...]) -> KeyPath:
    """The path as written in the file: without pydantic's names of union members (`lora`, `list[str]`)."""
    if location[:1] == ("technique",) and len(location) > 1 and location[1] in TECHNIQUES:
        location = ("technique", *location[2:])
    return tuple(part for part in location if not (isinstance(part, str) and "[" in part))


def _technique(location: tuple[int | str, ...]) -> str | None:
    """The technique whose keys a location is among."""
    name = location[1] if location[:1] == ("technique",) and len(location) > 1 else None
    return name if isinstance(name, str) and name in TECHNIQUES else None


def _explain(path: KeyPath, alternatives: list[ErrorDetails]) -> Explanation:
    name = ".".join(str(part) for part in path)
    detail = alternatives[0]
    kind = detail["type"]
    if kind == "extra_forbidden":
        fix = _meant_key(str(path[-1]), path[:-1], _technique(detail["loc"]))
        return Explanation("unknown-key", path, f"Unknown key `{name}`.", fix)
    if kind == "missing":
        return Explanation("missing-key", path, f"Key `{name}` is missing.", _description(path))
    if kind == "union_tag_not_found":
        known = _known("techniques", TECHNIQUES)
        return Explanation("missing-key", (*path, "name"), f"Key `{name}.name` is missing.", known)
    if kind == "union_tag_invalid":
        given = str(detail["ctx"]["tag"])
        fix = closest(given, TECHNIQUES) or _known("techniques", TECHNIQUES)
        return Explanation("bad-value", (*path, "name"), f"Unknown technique `{given}`.", fix)
    if name == "task" and kind == "value_error":
        given = str(detail["input"])
        fix = closest(given, TASKS) or _known("tasks", TASKS)
        return Explanation("bad-value", path, f"Unknown task `{given}`.", fix)
    if kind == "value_error":  # the recipe's own words
        message = detail["msg"].removeprefix("Value error, ")
        prefix = f"`{name}`: " if name else ""
        mentions = tuple(_mentions(path, message))
        return Explanation("bad-value", path, f"{prefix}{_sentence(message)}", mentions=mentions)
    return _wrong_value(path, name, alternatives)


def _wrong_value(path: KeyPath, name: str, alternatives: list[ErrorDetails]) -> Explanation:
    given = alternatives[0]["input"]
    wanted = []
    fix = ""
    for detail in alternatives:
        message = detail["msg"].removeprefix("Input should be ").removeprefix("a valid ")
        wanted.append(_SHOULD_BE.get(detail["type"], message[:1].lower() + message[1:]))
        if detail["type"] == "literal_error" and isinstance(given, str):
            fix = fix or closest(given, re.findall(r"'([^']+)'", str(detail["ctx"]["expected"])))
        if detail["type"] == "string_type" and isinstance(given, (int, float)):
            fix = f'Put it in quotes: "{given}".'
    if path == ("technique",) and isinstance(given, str):
        fix = f"Write: technique: {{name: {given}}}"
    if path[:1] == ("technique",) and len(path) == 1 and not isinstance(given, dict):
        wanted = ["a mapping (keys below it, indented)"]
    if alternatives[0]["type"] == "string_pattern_mismatch":
        return Explanation("bad-value", path, f"`{name}` can't be {short(given)}.", _description(path))
    listed = " or ".join(dict.fromkeys(wanted))
    if any(wish.startswith("string should") for wish in wanted):
        return Explanation("bad-value", path, f"`{name}`: {listed}.", _description(path))
    return Explanation("bad-value", path, f"`{name}` should be {listed}, not {short(given)}.", fix)


def closest(word: str, candidates: Iterable[str], cutoff: float = 0.6) -> str:
    """A did-you-mean sentence, or nothing when no candidate is near; `LoRA` is as near to `lora` as can be."""
    names = {name.lower(): name for name in candidates}
    word = word.lower()
    close = difflib.get_close_matches(word, list(names), n=3, cutoff=cutoff)
    # Swapped letters are the commonest slip, and difflib finds `modle` as near to `modes` as to `model`.
    match = next((other for other in close if sorted(other) == sorted(word)), close[0] if close else None)
    return f"Did you mean `{names[match]}`?" if match else ""


def short(value: object) -> str:
    """A value as it may stand in a message: YAML's words, at most 60 characters."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "empty"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def models_at(path: KeyPath) -> list[type[BaseModel]]:
    """The classes that can stand at a path; several for a technique, none for what isn't a section."""
    models: list[type[BaseModel]] = [Recipe]
    for part in path:
        if part == "technique":
            models = list(TECHNIQUES.values())
            continue
        fields = [model.model_fields[str(part)].annotation for model in models if str(part) in model.model_fields]
        models = [field for field in fields if isinstance(field, type) and issubclass(field, BaseModel)]
    return models


def all_keys(path: KeyPath = ()) -> Iterator[str]:
    """Every key of a recipe as a dotted path, sections before what they hold."""
    for name in dict.fromkeys(name for model in models_at(path) for name in model.model_fields):
        yield ".".join(str(part) for part in (*path, name))
        yield from all_keys((*path, name))


def _meant_key(key: str, parent: KeyPath, technique: str | None) -> str:
    models = models_at(parent) if technique is None else [TECHNIQUES[technique]]
    siblings = sorted({name for model in models for name in model.model_fields})
    if technique is not None:
        others = [f"`{name}`" for name, model in TECHNIQUES.items() if key in model.model_fields]
        if others:
            return f"Technique `{technique}` has none. Those that have it: {', '.join(others)}."
    if close := closest(key, siblings):
        return close
    elsewhere: dict[str, str] = {}
    for full in all_keys():
        elsewhere.setdefault(full.rpartition(".")[2], full)
    if match := difflib.get_close_matches(key, list(elsewhere), n=1, cutoff=0.75):
        return f"Did you mean `{elsewhere[match[0]]}`?"
    return f"Known here: {', '.join(siblings)}." if siblings else ""


def _mentions(path: KeyPath, message: str) -> Iterator[KeyPath]:
    for word in re.findall(r"[a-z][a-z_.]*[a-z]", message):
        parts = (*path, *word.split("."))
        if parts[-1] in {name for model in models_at(parts[:-1]) for name in model.model_fields}:
            yield parts


def _description(path: KeyPath) -> str:
    for model in models_at(path[:-1]):
        field = model.model_fields.get(str(path[-1]))
        if field is not None and field.description:
            return field.description
    return ""


def _known(noun: str, names: Iterable[str]) -> str:
    return f"This version knows the {noun}: {', '.join(names)}."


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else text + "."
