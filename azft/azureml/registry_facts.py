"""What the registry itself says of a model: which sizes it can be tuned and served on, its defaults, its regions.

Newer than any table of azft's. The values of its tags are Python literals in a string; they are read as literals and
never run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from azft.azureml.errors import MissingResourceError, MissingRoleError
from azft.azureml.patience import call

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from azft.azureml.connection import Connection

OnEvent = Callable[[dict[str, Any]], None]

_ID = re.compile(r"^azureml://registries/([^/]+)/models/([^/]+)(?:/(versions|labels)/([^/]+))?$")

ALLOW_LIST = "finetune_compute_allow_list"
DEFAULTS = "model_specific_defaults"
REGIONS = "maas-finetuning-deploy-regions"
TUNE_SKUS = "finetune-recommended-sku"
SERVE_SKUS = "inference-recommended-sku"


@dataclass(frozen=True)
class RegistryFacts:
    """What one version of a registry's model says of itself; what it does not say is None or empty."""

    registry: str
    name: str
    version: str
    allow_list: tuple[str, ...] | None = None
    """VM sizes that it may be tuned on."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    regions: tuple[str, ...] | None = None
    """Regions of serverless fine-tuning."""
    tune_sizes: tuple[str, ...] = ()
    serve_sizes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Tags whose value is no literal."""


def read_facts(connection: Connection, model_id: str) -> RegistryFacts | None:
    """What the registry says of a model; None for an id that is no registry's.

    Asks twice: where the registry is (once a process), and for the model. Raises `MissingResourceError` for a model or
    a version that the registry hasn't, and `AzftError` else.
    """
    match = _ID.match(model_id)
    if match is None:
        return None
    registry, name, kind, which = match.groups()
    version = str(which) if kind == "versions" else None
    models = _registry(connection, registry).models
    what = f"Reading the model {name} in the registry {registry}"
    try:
        found = call(what, lambda: models.get(name, version=version) if version else _newest(models, name))
    except MissingResourceError as error:
        raise _missing(registry, name, version, error) from None
    if found is None:
        raise _missing(registry, name, version)
    tags = {str(key): str(value) for key, value in (found.tags or {}).items()}
    properties = {str(key): str(value) for key, value in (found.properties or {}).items()}
    return parse_facts(registry, name, str(found.version), tags, properties)


def require_model(connection: Connection, model_id: str, *, on_event: OnEvent) -> str:
    """The model's id with its version: what is newest now, where the id says only that.

    Raises `MissingResourceError` when the model is a registry's and isn't there: else the job would find that out. An
    id that is no registry's comes back as it is. So it does where whoever is signed in may not look (a registry behind
    a network of its own): the job decides; it is told as {"event": "model-unchecked", "message"}.
    """
    try:
        facts = read_facts(connection, model_id)
    except MissingRoleError as error:
        if error.answer is None or error.answer.status != 403:
            raise
        on_event({"event": "model-unchecked", "message": error.message})
        return model_id
    return (
        model_id
        if facts is None
        else f"azureml://registries/{facts.registry}/models/{facts.name}/versions/{facts.version}"
    )


def _newest(models: Any, name: str) -> Any:
    """The newest version of a model, in one request (the SDK's `get` makes two of it); None when it has none."""
    from azure.ai.ml.exceptions import ValidationErrorType, ValidationException

    try:
        return models._get_latest_version(name)
    except ValidationException as error:
        if error.error_type == ValidationErrorType.RESOURCE_NOT_FOUND:
            return None
        raise


def _registry(connection: Connection, name: str) -> MLClient:
    try:
        return connection.registry(name)
    except MissingResourceError as error:
        fix = "Check its name in the recipe's model: azureml://registries/<registry>/models/..."
        raise _refused(f"There is no registry {name}.", fix, error) from None


def _missing(
    registry: str, name: str, version: str | None, error: MissingResourceError | None = None
) -> MissingResourceError:
    which = f"no version {version} of the model {name}" if version else f"no model {name}"
    fix = f"Name another one in the recipe (model). What it has: https://ml.azure.com/registries/{registry}/models"
    return _refused(f"The registry {registry} has {which}.", fix, error)


def _refused(message: str, fix: str, error: MissingResourceError | None) -> MissingResourceError:
    answer = error.answer if error is not None else None
    return MissingResourceError(message, fix=f"{fix}\n{answer.sentence}" if answer else fix, answer=answer)


def parse_facts(
    registry: str, name: str, version: str, tags: Mapping[str, str], properties: Mapping[str, str]
) -> RegistryFacts:
    """The facts in a model's tags and properties."""
    unreadable: list[str] = []

    def literal(key: str, kind: type) -> Any:
        text = tags.get(key)
        if text is None:
            return None
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = None
        if not isinstance(value, kind):
            unreadable.append(key)
            return None
        return value

    allowed = literal(ALLOW_LIST, list)
    defaults = literal(DEFAULTS, dict)
    regions = _words(tags[REGIONS]) if REGIONS in tags else None
    return RegistryFacts(
        registry=registry,
        name=name,
        version=version,
        allow_list=None if allowed is None else tuple(str(size) for size in allowed),
        defaults={str(key): value for key, value in (defaults or {}).items()},
        regions=regions,
        tune_sizes=_words(properties.get(TUNE_SKUS, "")),
        serve_sizes=_words(properties.get(SERVE_SKUS, "")),
        unreadable=tuple(unreadable),
    )


def _words(text: str) -> tuple[str, ...]:
    """A list that is written as a literal, or with commas."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    parts = value if isinstance(value, (list, tuple)) else text.split(",")
    return tuple(word for part in parts if (word := str(part).strip()))
