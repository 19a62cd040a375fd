"""Versioned assets, of the workspace and of registries: codes, environments, components, data, models.

A scope is `workspace`, or `registries/<name>`. Whatever makes an asset calls `create`, whether it came over the wire or
out of a job; whatever needs one by a reference asks `azft.emulator.references`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azft.emulator.http import ApiError, not_found
from azft.emulator.workspace import resource_id, system_data

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

WORKSPACE_SCOPE = "workspace"
KINDS = ("codes", "environments", "components", "data", "models")

# What never changes once a version exists. Descriptions, tags and properties may.
_FIXED = {
    "codes": ("codeUri",),
    "environments": ("image", "condaFile", "build"),
    "components": ("componentSpec",),
    "data": ("dataUri", "dataType"),
    "models": ("modelUri", "modelType"),
}


@dataclass(frozen=True)
class Asset:
    """One version of an asset; `properties` are as on the wire."""

    scope: str
    kind: str
    name: str
    version: str
    properties: dict[str, Any]
    created: float
    modified: float


def registry_scope(name: str) -> str:
    """The scope of a registry."""
    return f"registries/{name.lower()}"


def asset_id(emu: Emulator, scope: str, kind: str, name: str, version: str) -> str:
    """The id that Azure gives a version."""
    base = resource_id(emu) if scope == WORKSPACE_SCOPE else f"azureml://{scope}"
    return f"{base}/{kind}/{name}/versions/{version}"


def find(emu: Emulator, scope: str, kind: str, name: str, version: str) -> Asset | None:
    """A version, or None."""
    document = emu.state.get(f"asset/{kind}", f"{scope}/{name}/{version}")
    return None if document is None else _asset(scope, kind, document)


def get(emu: Emulator, scope: str, kind: str, name: str, version: str) -> Asset:
    """A version; raises `ApiError` (404) when it isn't there."""
    found = find(emu, scope, kind, name, version)
    if found is None:
        raise not_found(f"{_SINGULAR[kind]} {name}:{version}")
    return found


def versions(emu: Emulator, scope: str, kind: str, name: str) -> list[Asset]:
    """All versions of a name, oldest first."""
    return [_asset(scope, kind, document) for _, document in emu.state.list(f"asset/{kind}", f"{scope}/{name}/")]


def names(emu: Emulator, scope: str, kind: str) -> list[str]:
    """The names that have a version, in the order in which they came."""
    found = [document["name"] for _, document in emu.state.list(f"asset/{kind}", f"{scope}/")]
    return list(dict.fromkeys(found))


def everything(emu: Emulator, scope: str, kind: str) -> list[Asset]:
    """All versions of all names, oldest first."""
    return [_asset(scope, kind, document) for _, document in emu.state.list(f"asset/{kind}", f"{scope}/")]


def latest(emu: Emulator, scope: str, kind: str, name: str) -> Asset:
    """The version that was created last; raises `ApiError` (404) when there is none."""
    found = versions(emu, scope, kind, name)
    if not found:
        raise not_found(f"{_SINGULAR[kind]} container {name}")
    return found[-1]


def next_version(emu: Emulator, scope: str, kind: str, name: str) -> str:
    """The version that the service would give: one more than the highest number."""
    numbers = [int(asset.version) for asset in versions(emu, scope, kind, name) if asset.version.isdigit()]
    return str(max(numbers, default=0) + 1)


def create(
    emu: Emulator, scope: str, kind: str, name: str, version: str, properties: dict[str, Any]
) -> tuple[Asset, bool]:
    """Create a version, or update what may change of one that is there; returns whether it is new.

    Raises `ApiError` when an existing version would become another asset.
    """
    _check_name(name)
    now = emu.clock.now()
    with emu.state.transaction():
        before = find(emu, scope, kind, name, version)
        if before is not None:
            _check_unchanged(before, properties)
        filled = _filled(kind, properties if before is None else {**before.properties, **properties})
        made = Asset(scope, kind, name, version, filled, now if before is None else before.created, now)
        document = {
            "name": name,
            "version": version,
            "properties": made.properties,
            "created": made.created,
            "modified": made.modified,
        }
        emu.state.put(f"asset/{kind}", f"{scope}/{name}/{version}", document)
    return made, before is None


def document(emu: Emulator, asset: Asset) -> dict[str, Any]:
    """A version as the control plane shows it."""
    return {
        "id": asset_id(emu, asset.scope, asset.kind, asset.name, asset.version),
        "name": asset.version,
        "type": f"Microsoft.MachineLearningServices/workspaces/{asset.kind}/versions",
        "systemData": system_data(emu, asset.created, asset.modified),
        "properties": asset.properties,
    }


def container_document(emu: Emulator, scope: str, kind: str, name: str) -> dict[str, Any]:
    """A name as the control plane shows it: its newest and its next version."""
    newest = latest(emu, scope, kind, name)
    first = versions(emu, scope, kind, name)[0]
    base = asset_id(emu, scope, kind, name, "").removesuffix("/versions/")
    properties = {
        "description": newest.properties.get("description"),
        "tags": newest.properties.get("tags") or {},
        "properties": {},
        "isArchived": all(asset.properties.get("isArchived") for asset in versions(emu, scope, kind, name)),
        "latestVersion": newest.version,
        "nextVersion": next_version(emu, scope, kind, name),
        "provisioningState": "Succeeded",
    }
    if kind == "data":
        properties["dataType"] = newest.properties.get("dataType")
    return {
        "id": base,
        "name": name,
        "type": f"Microsoft.MachineLearningServices/workspaces/{kind}",
        "systemData": system_data(emu, first.created, newest.modified),
        "properties": properties,
    }


_SINGULAR = {
    "codes": "Code", "environments": "Environment", "components": "Component", "data": "Data", "models": "Model",
}  # fmt: skip


def _asset(scope: str, kind: str, document: dict[str, Any]) -> Asset:
    return Asset(
        scope,
        kind,
        document["name"],
        document["version"],
        document["properties"],
        document["created"],
        document["modified"],
    )


def _filled(kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    """The properties with what the service always answers."""
    always: dict[str, Any] = {
        "description": None,
        "tags": {},
        "properties": {},
        "isAnonymous": False,
        "isArchived": False,
    }
    if kind == "models":
        # azure-ai-ml walks over them without asking whether they are there.
        always |= {"flavors": {}, "modelType": "custom_model", "stage": None}
    if kind == "environments":
        always |= {"environmentType": "UserCreated", "osType": "Linux"}
    given = {name: value for name, value in properties.items() if value is not None or name not in always}
    return {**always, **given, "provisioningState": "Succeeded"}


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,254}", name):
        message = (
            f"The name {name!r} is invalid: only letters, digits, underscores, dots and hyphens, at most 255 of them, "
            "and not a dot or hyphen first."
        )
        raise ApiError(400, "UserError", message, "BadArgument/ArgumentInvalid")


def _check_unchanged(before: Asset, properties: dict[str, Any]) -> None:
    changed = [
        name
        for name in _FIXED[before.kind]
        if properties.get(name) is not None and properties[name] != before.properties.get(name)
    ]
    if changed:
        message = (
            "Asset paths cannot be updated."
            if changed[0].endswith("Uri")
            else f"Cannot update {changed[0]}: the version exists."
        )
        raise ApiError(400, "UserError", message, "Immutable/AssetImmutable")
