"""The control plane of assets, for the workspace and for registries: the same operations under two prefixes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import yaml

from azft.emulator import assets, references
from azft.emulator.assets import WORKSPACE_SCOPE, Asset
from azft.emulator.http import REGISTRY, WORKSPACE, ApiError, Handler, Request, Response, Route
from azft.emulator.settings import ACCOUNT
from azft.emulator.storage_access import sas_url

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

PAGE = 100
_PUBLIC = f"https://{ACCOUNT}.blob.core.windows.net"
"""The account's name as Azure would write it. It is kept in documents, because loopback's port changes."""


def _scope(request: Request) -> str:
    registry = request.params.get("registry")
    return WORKSPACE_SCOPE if registry is None else assets.registry_scope(registry)


def _get_version(kind: str) -> Handler:
    def get_version(emu: Emulator, request: Request) -> Response:
        asset = assets.get(emu, _scope(request), kind, request.params["name"], request.params["version"])
        return Response(200, assets.document(emu, asset))

    return get_version


def _put_version(kind: str) -> Handler:
    def put_version(emu: Emulator, request: Request) -> Response:
        name, version = request.params["name"], request.params["version"]
        properties = dict(request.json().get("properties") or {})
        if kind == "models":
            properties = _checked_model(emu, properties)
        if kind == "components":
            properties["componentSpec"] = _checked_component(properties)
        if kind == "environments":
            properties = _public_context(emu, properties)
        if kind == "data" and properties.get("dataUri"):
            properties["dataUri"] = references.datastore_uri(emu, properties["dataUri"])
        asset, new = assets.create(emu, _scope(request), kind, name, version, properties)
        return Response(201 if new else 200, assets.document(emu, asset))

    return put_version


def _checked_model(emu: Emulator, properties: dict[str, Any]) -> dict[str, Any]:
    """A model's properties as the service keeps them: the path resolved, an MLflow model's flavors read."""
    if not properties.get("modelUri"):
        return properties
    found = {**properties, "modelUri": references.datastore_uri(emu, properties["modelUri"])}
    path = references.folder(emu, found["modelUri"], "models")
    if not path.exists():
        message = f"The specified model path does not exist: {properties['modelUri']}"
        raise ApiError(400, "UserError", message, "BadArgument/ModelPathNotFound")
    if found.get("modelType") == "mlflow_model" and not found.get("flavors"):
        found["flavors"] = mlflow_flavors(emu, found["modelUri"])
    return found


def mlflow_flavors(emu: Emulator, uri: str) -> dict[str, Any]:
    """The flavors of an MLflow model as the wire has them; raises `ApiError` when there is no `MLmodel`."""
    described = references.folder(emu, uri) / "MLmodel"
    if not described.is_file():
        message = "The MLmodel file was not found in the model's folder; a model of type mlflow_model needs one."
        raise ApiError(400, "UserError", message, "BadArgument/MLmodelNotFound")
    content = yaml.safe_load(described.read_text("utf-8")) or {}
    return {name: {"data": _texts(data)} for name, data in (content.get("flavors") or {}).items()}


def _texts(data: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in (data or {}).items()}


def _public_context(emu: Emulator, properties: dict[str, Any]) -> dict[str, Any]:
    """An environment's properties with its build context by the account's public name, which no port is part of."""
    build = properties.get("build") or {}
    if not build.get("contextUri"):
        return properties
    relative = references.folder(emu, build["contextUri"]).relative_to(emu.state.root / "blobs" / ACCOUNT)
    return {**properties, "build": {**build, "contextUri": f"{_PUBLIC}/{relative.as_posix()}/"}}


def _checked_component(properties: dict[str, Any]) -> dict[str, Any]:
    spec = properties.get("componentSpec")
    if not isinstance(spec, dict) or not spec.get("type"):
        raise ApiError(400, "UserError", "The component has no specification.", "BadArgument/ArgumentInvalid")
    return spec


def _list_versions(kind: str) -> Handler:
    def list_versions(emu: Emulator, request: Request) -> Response:
        scope, name = _scope(request), request.params["name"]
        digest = request.query.get("hash")
        if digest is not None:
            # Code is looked for by its content, whatever it was called.
            found = [item for item in assets.everything(emu, scope, kind) if _hash(item) == digest]
        else:
            found = assets.versions(emu, scope, kind, name)
            view = _lower(request.query).get("listviewtype", "ActiveOnly").lower()
            found = [item for item in found if _in_view(item, view)]
        documents = [assets.document(emu, item) for item in found if not _hidden(emu, request, item)]
        return _page(emu, request, documents)

    return list_versions


def _hidden(emu: Emulator, request: Request, asset: Asset) -> bool:
    base = request.path.rsplit("/", 2)[0]
    return emu.hidden(f"{base}/{asset.name}/versions/{asset.version}")


def _hash(asset: Asset) -> str | None:
    properties = asset.properties.get("properties") or {}
    found = properties.get("hash_sha256")
    return None if found is None else str(found)


def _in_view(asset: Asset, view: str) -> bool:
    archived = bool(asset.properties.get("isArchived"))
    return view == "all" or archived == (view == "archivedonly")


def _page(emu: Emulator, request: Request, documents: list[dict[str, Any]]) -> Response:
    """A page of a list: newest first unless another order is asked for, `$top` and `$skip` honoured."""
    query = _lower(request.query)
    if "asc" not in query.get("$orderby", "createdtime desc").lower().split():
        documents.reverse()
    top, skip = int(query.get("$top", len(documents))), int(query.get("$skip", 0))
    shown = documents[skip : skip + min(top, PAGE)]
    reply: dict[str, Any] = {"value": shown}
    if len(shown) == PAGE and skip + PAGE < len(documents) and top > PAGE:
        kept = "&".join(
            f"{name}={value}" for name, value in request.query.items() if name.lower() not in {"$skip", "$top"}
        )
        reply["nextLink"] = f"{emu.url}{request.path}?{kept}&$skip={skip + PAGE}" + (
            f"&$top={top - PAGE}" if "$top" in query else ""
        )
    return Response(200, reply)


def _lower(query: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in query.items()}


def _get_container(kind: str) -> Handler:
    def get_container(emu: Emulator, request: Request) -> Response:
        return Response(200, assets.container_document(emu, _scope(request), kind, request.params["name"]))

    return get_container


def _list_containers(kind: str) -> Handler:
    def list_containers(emu: Emulator, request: Request) -> Response:
        scope = _scope(request)
        found = [assets.container_document(emu, scope, kind, name) for name in assets.names(emu, scope, kind)]
        view = _lower(request.query).get("listviewtype", "ActiveOnly").lower()
        shown = [
            item for item in found if view == "all" or item["properties"]["isArchived"] == (view == "archivedonly")
        ]
        return _page(emu, request, shown)

    return list_containers


def start_upload(emu: Emulator, request: Request) -> Response:
    """POST startPendingUpload, or a registry's temporary data reference: a container of its own, and a SAS for it."""
    container = f"upload-{uuid.uuid4()}"
    emu.blob_path(ACCOUNT, container).mkdir(parents=True)
    reply = {
        "pendingUploadType": "TemporaryBlobReference",
        "pendingUploadId": uuid.uuid4().hex,
        "blobReferenceForConsumption": {
            "blobUri": f"{_PUBLIC}/{container}",
            "storageAccountArmId": f"/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}",
            "credential": {"credentialType": "SAS", "sasUri": sas_url(emu, permissions="racwdl", container=container)},
        },
    }
    return Response(200, reply)


def _routes(prefix: str) -> list[Route]:
    found: list[Route] = []
    for kind in assets.KINDS:
        found += [
            Route("GET", f"{prefix}/{kind}/{{name}}/versions/{{version}}", _get_version(kind)),
            Route("PUT", f"{prefix}/{kind}/{{name}}/versions/{{version}}", _put_version(kind)),
            Route("POST", f"{prefix}/{kind}/{{name}}/versions/{{version}}/startPendingUpload", start_upload),
            Route("GET", f"{prefix}/{kind}/{{name}}/versions", _list_versions(kind)),
            Route("GET", f"{prefix}/{kind}/{{name}}", _get_container(kind)),
            Route("GET", f"{prefix}/{kind}", _list_containers(kind)),
        ]
    return found


ROUTES = (*_routes(WORKSPACE), *_routes(REGISTRY))
