"""What the registry itself says of a model: which sizes it can be tuned and served on, its defaults, its regions.

Newer than any table of azft's. The values of its tags are Python literals in a string; they are read as literals and
never run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from azft.azureml.patience import call

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

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
    """What the registry says of a model; None for an id that is no registry's. Raises `AzftError`."""
    match = _ID.match(model_id)
    if match is None:
        return None
    registry, name, kind, which = match.groups()
    models = connection.registry(registry).models
    asked = {"version": which} if kind == "versions" else {"label": which or "latest"}
    found = call(f"Reading the model {name} in the registry {registry}", lambda: models.get(name, **asked))
    tags = {str(key): str(value) for key, value in (found.tags or {}).items()}
    properties = {str(key): str(value) for key, value in (found.properties or {}).items()}
    return parse_facts(registry, name, str(found.version), tags, properties)


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
