"""YAML text to values with the line of every key, under YAML 1.2's rules and safe limits.

YAML 1.1, which PyYAML follows, reads `no` as false, `2e-4` as text, `010` as 8 and `1:30` as 90. Here those are text, a
number, 10 and text, as a reader expects. What the values mean is not this module's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]

MAX_DEPTH = 20
MAX_NODES = 20_000
"""Nodes after aliases are followed: ten lines of nested aliases can stand for a billion values."""

Transform = Callable[[str, KeyPath, int], str]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the text; `line` is 1-based."""

    code: str
    message: str
    fix: str = ""
    line: int | None = None


@dataclass
class Document:
    """What a text holds: its value, the line of each key path, and every problem found on the way."""

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema)."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _construct_int(_loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = node.value
    try:
        return int(text, 0) if text[:2] in {"0x", "0o"} else int(text)
    except ValueError:  # more digits than Python converts, or an explicit !!int on text
        problem = "not a whole number of reasonable size"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def parse(text: str, transform: Transform | None = None) -> Document:
    """Read one YAML document.

    `transform(text, path, line)` may replace a scalar's text before its type is decided; a plain scalar is then read as
    if the new text had stood in the file, a quoted one stays text. Never raises for bad text: see `Document.problems`.
    """
    document = Document()
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            document.value = _Builder(loader, document, transform).build(node, (), 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or error.context or "cannot be read").strip().rstrip(".")
        fix = "Check the indentation, quotes and colons here."
        line = mark.line + 1 if mark else None
        document.problems.append(Problem("not-yaml", f"Not valid YAML: {problem}.", fix, line))
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1 if isinstance(error.position, int) else None
        message = f"Character {error.character!r} is not allowed in YAML."
        document.problems.append(Problem("not-yaml", message, line=line))
    except RecursionError:
        document.problems.append(Problem("not-yaml", "Not valid YAML: nested far too deeply."))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        first = (str(error).splitlines() or ["cannot be read"])[0]
        document.problems.append(Problem("not-yaml", f"Not valid YAML: {first}."))
    finally:
        if loader is not None:
            loader.dispose()
    return document


class _Builder:
    """Turns nodes into values, within limits, and notes each key's line."""

    def __init__(self, loader: _Loader, document: Document, transform: Transform | None) -> None:
        self.loader = loader
        self.document = document
        self.transform = transform
        self.nodes = 0

    def build(self, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        self.nodes += 1
        if depth > MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} levels deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        if self.nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_NODES:,} values", problem_mark=node.start_mark)
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, index), depth + 1) for index, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=key_node.start_mark)
            key = _encodable(key_node.value, key_node)
            child = (*path, key)
            if key in result:
                message = f"Key `{key}` is given twice (first on line {self.document.lines[child]})."
                self.document.problems.append(Problem("duplicate-key", message, "Keep one of them.", line))
            self.document.lines[child] = line
            result[key] = self.build(value_node, child, depth + 1)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        if self.transform is not None and (changed := self.transform(node.value, path, line)) != node.value:
            tag = node.tag
            if node.style is None:
                tag = self.loader.resolve(yaml.ScalarNode, changed, (True, False))  # type: ignore[no-untyped-call]
            node = yaml.ScalarNode(tag, changed, node.start_mark, node.end_mark, style=node.style)
        value = self.loader.construct_object(node)
        if isinstance(value, str):
            return _encodable(value, node)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        raise yaml.MarkedYAMLError(problem=f"a recipe has no use for {node.tag}", problem_mark=node.start_mark)


def _encodable(text: str, node: yaml.Node) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        problem = "half of a surrogate pair is not a character"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None
    return text
