"""The catalog's YAML tables, read strictly: a row that doesn't fit is named by file and line."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from azft.errors import AzftError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser, where PyYAML was built with it: every plan reads the tables, in 6 ms by it and 55 by Python's."""


class Row(BaseModel):
    """A row: unknown keys are errors, values don't change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Table = TypeVar("Table", bound=Row)


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a table, for naming its lines."""

    name: str
    root: yaml.Node | None

    def place(self, *path: Any) -> str:
        """`file:line` of the deepest part of `path` that is written down."""
        return f"{self.name}:{_line(self.root, path)}"


def read_shipped(name: str) -> str:
    """The text of one of the catalog's files."""
    return files("azft.catalog").joinpath(name).read_text(encoding="utf-8")


def read_table(text: str, model: type[Table], *, name: str) -> tuple[Table, Source]:
    """A table from YAML text. Raises `AzftError` with `name:line` for each row that doesn't fit."""
    loader = _LOADER(text)
    try:
        source = Source(name, loader.get_single_node())
        values = None if source.root is None else loader.construct_document(source.root)
        return model.model_validate(values), source
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise AzftError(f"{name}:{line}: not valid YAML: {error.problem}.") from None
    except ValidationError as error:
        problems = [
            f"{source.place(*detail['loc'])}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}"
            for detail in error.errors(include_url=False)
        ]
        raise AzftError("\n".join(problems)) from None
    finally:
        loader.dispose()


def _line(node: yaml.Node | None, path: tuple[Any, ...]) -> int:
    line = 1
    for part in path:
        if node is None:
            return line
        line = node.start_mark.line + 1
        child: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    line, child = key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            child = node.value[part]
            line = child.start_mark.line + 1
        node = child
    return line
