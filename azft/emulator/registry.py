"""Registries: where they are, what is seeded into them, and how their files are read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.emulator import assets
from azft.emulator.asset_routes import start_upload
from azft.emulator.http import REGISTRY, ApiError, Request, Response, Route, not_found
from azft.emulator.settings import ACCOUNT, SUBSCRIPTION, TENANT
from azft.emulator.storage_access import sas_url

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

KNOWN = ("azureml", "azureml-meta", "azureml-mistral", "azureml-openai-oss", "azureml-msr", "azureml-preview")


def _exists(emu: Emulator, name: str) -> bool:
    scope = assets.registry_scope(name)
    return name.lower() in KNOWN or any(assets.names(emu, scope, kind) for kind in assets.KINDS)


def discover(emu: Emulator, request: Request) -> Response:
    """GET where a registry is: here."""
    name = request.params["registry"]
    if not _exists(emu, name):
        raise not_found(f"Registry {name}")
    reply = {
        "registryName": name,
        "tenantId": TENANT,
        "primaryRegion": emu.settings.location,
        "regions": list(emu.settings.regions),
        "registryFqdns": {region: {"uri": emu.url} for region in emu.settings.regions},
        "subscriptionId": SUBSCRIPTION,
        "resourceGroup": f"registry-{name}",
        "workspaceName": name,
        "primaryRegionResourceProviderUri": f"{emu.url}/",
    }
    return Response(200, reply)


def get_registry(emu: Emulator, request: Request) -> Response:
    """GET the registry's own resource."""
    name = request.params["registry"]
    if not _exists(emu, name):
        raise not_found(f"Registry {name}")
    reply = {
        "id": request.path,
        "name": name,
        "type": "Microsoft.MachineLearningServices/registries",
        "location": emu.settings.location,
        "tags": {},
        "properties": {
            "discoveryUrl": f"{emu.url}/registrymanagement/v1.0/registries/{name}/discovery",
            "intellectualPropertyPublisher": None,
            "publicNetworkAccess": "Enabled",
            "regionDetails": [{"location": region} for region in emu.settings.regions],
        },
    }
    return Response(200, reply)


def read_files(emu: Emulator, request: Request) -> Response:
    """POST a registry's data reference: a SAS for an asset's files."""
    uri = str(request.json().get("blobUri", ""))
    container = uri.split("/")[3] if uri.count("/") > 3 else ""
    if not container.startswith(("registry-", "upload-")):
        raise ApiError(400, "UserError", "The blob is not of this registry.", "BadArgument/ArgumentInvalid")
    found = {"credentialType": "SAS", "sasUri": sas_url(emu, permissions="rl", container=container)}
    return Response(200, {"blobReferenceForConsumption": {"blobUri": uri, "credential": found}})


# Seeding, for tests and rehearsals


def seed_model(
    emu: Emulator,
    registry: str,
    name: str,
    version: str,
    folder: Path,
    *,
    tags: dict[str, str] | None = None,
    properties: dict[str, str] | None = None,
    kind: str = "custom_model",
) -> dict[str, Any]:
    """Put a model into a registry, its files copied from `folder`."""
    container, path = f"registry-{registry.lower()}", f"models/{name}/{version}/{folder.name}"
    if not folder.is_dir():
        raise ApiError(400, "BadRequest", f"{folder} is not a folder.")
    shutil.copytree(folder, emu.blob_path(ACCOUNT, container, path), dirs_exist_ok=True)
    described = {
        "modelUri": f"https://{ACCOUNT}.blob.core.windows.net/{container}/{path}",
        "modelType": kind,
        "tags": tags or {},
        "properties": properties or {},
    }
    asset, _ = assets.create(emu, assets.registry_scope(registry), "models", name, version, described)
    return assets.document(emu, asset)


def seed_component(emu: Emulator, registry: str, name: str, version: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Put a component into a registry; `spec` is its componentSpec as on the wire."""
    described = {"componentSpec": {**spec, "name": name, "version": version}}
    asset, _ = assets.create(emu, assets.registry_scope(registry), "components", name, version, described)
    return assets.document(emu, asset)


def post_model(emu: Emulator, request: Request) -> Response:
    """POST /_emulator/registries/{registry}/models {name, version, folder, tags, properties, type}."""
    body = _needs(request, "name", "version", "folder")
    made = seed_model(
        emu,
        request.params["registry"],
        body["name"],
        str(body["version"]),
        Path(body["folder"]),
        tags=body.get("tags"),
        properties=body.get("properties"),
        kind=body.get("type", "custom_model"),
    )
    return Response(201, made)


def post_component(emu: Emulator, request: Request) -> Response:
    """POST /_emulator/registries/{registry}/components {name, version, spec}."""
    body = _needs(request, "name", "version", "spec")
    made = seed_component(emu, request.params["registry"], body["name"], str(body["version"]), body["spec"])
    return Response(201, made)


def _needs(request: Request, *names: str) -> dict[str, Any]:
    body: dict[str, Any] = request.json()
    missing = [name for name in names if name not in body]
    if missing:
        raise ApiError(400, "BadRequest", f"The body has no {', '.join(missing)}.")
    return body


ROUTES = (
    Route("GET", "/registrymanagement/v1.0/registries/{registry}/discovery", discover),
    Route("GET", REGISTRY, get_registry),
    Route("PUT", REGISTRY + "/tempdatarefs/{name}/versions/{version}", start_upload),
    Route("POST", REGISTRY + "/datarefs/{name}/versions/{version}", read_files),
    Route("POST", "/_emulator/registries/{registry}/models", post_model, auth="none"),
    Route("POST", "/_emulator/registries/{registry}/components", post_component, auth="none"),
)
