"""Serverless endpoints: a model by its id and two keys, without machines of one's own."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.emulator import marketplace, provisioning, references
from azft.emulator.endpoint_keys import new_keys, regenerated
from azft.emulator.http import WORKSPACE, ApiError, Request, Response, Route, not_found
from azft.emulator.serving import ModelServers
from azft.emulator.state import Document
from azft.emulator.workspace import resource_id, system_data

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

KIND = "serverless-endpoint"
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{1,50}[a-zA-Z0-9]")
_REGISTRY = re.compile(r"azureml://registries/[^/]+/models/[^/]+(?P<pick>/(?:versions|labels)/[^/]+)?")
_WORKSPACE = re.compile(
    r"azureml://locations/(?P<location>[^/]+)/workspaces/[^/]+/models/[^/]+(?P<pick>/versions/[^/]+)?"
)


def put_endpoint(emu: Emulator, request: Request) -> Response:
    """PUT an endpoint: created, or its tags changed; its model stays."""
    name, body = request.params["name"], request.json()
    if _NAME.fullmatch(name) is None:
        raise ApiError(400, "BadRequest", f"The endpoint name {name} is invalid.")
    properties = body.get("properties") or {}
    if str((body.get("sku") or {}).get("name", "")).lower() != "consumption":
        raise ApiError(400, "BadRequest", "The sku of a serverless endpoint must be Consumption.")
    model = str((properties.get("modelSettings") or {}).get("modelId") or "")
    before = provisioning.find(emu, KIND, name)
    if before is not None and before["model"].lower() != model.lower():
        raise ApiError(400, "BadRequest", f"The model of the endpoint {name} cannot be changed.")
    base = _checked_model(emu, model)
    if emu.faults.take("region-refuses-model", model=base, endpoint=name):
        message = f"The model {model} is not available for serverless deployment in {emu.settings.location}."
        raise ApiError(400, "BadRequest", message, "ModelNotSupportedInRegion")
    fields = {
        "name": name,
        "location": str(body.get("location") or emu.settings.location),
        "tags": body.get("tags") or {},
        "model": model,
        "base": base,
        "keys": new_keys() if before is None else before["keys"],
    }
    document, headers, new = provisioning.put(emu, KIND, name, fields)
    return Response(201 if new else 200, _json(emu, document), headers)


def get_endpoint(emu: Emulator, request: Request) -> Response:
    """GET an endpoint."""
    return Response(200, _json(emu, find(emu, request.params["name"])))


def list_endpoints(emu: Emulator, request: Request) -> Response:
    """GET all endpoints."""
    return Response(200, {"value": [_json(emu, document) for document in provisioning.every(emu, KIND)]})


def patch_endpoint(emu: Emulator, request: Request) -> Response:
    """PATCH an endpoint's tags."""
    document = find(emu, request.params["name"])
    document = {**document, "tags": request.json().get("tags") or document["tags"], "modified": emu.clock.now()}
    emu.state.put(KIND, document["name"].lower(), document)
    return Response(200, _json(emu, document))


def delete_endpoint(emu: Emulator, request: Request) -> Response:
    """DELETE an endpoint, and end the process that answered for it."""
    name = request.params["name"]
    endpoint = provisioning.find(emu, KIND, name)
    if endpoint is not None:
        with contextlib.suppress(ApiError):  # its model is gone already
            emu.part(ModelServers).end(model_folder(emu, endpoint))
    return provisioning.delete(emu, KIND, name)


def model_folder(emu: Emulator, endpoint: Document) -> Path:
    """Where an endpoint's model lies: a version of the workspace's, or the newest of a registry's."""
    model = str(endpoint["model"])
    return references.folder(emu, model if "/versions/" in model else f"{model}/labels/latest", "models")


def list_keys(emu: Emulator, request: Request) -> Response:
    """POST listKeys."""
    return Response(200, find(emu, request.params["name"])["keys"])


def regenerate_keys(emu: Emulator, request: Request) -> Response:
    """POST regenerateKeys."""
    document = find(emu, request.params["name"])
    document = {**document, "keys": regenerated(document["keys"], request.json())}
    emu.state.put(KIND, document["name"].lower(), document)
    return Response(200, document["keys"])


def find(emu: Emulator, name: str) -> Document:
    """An endpoint's document; raises `ApiError` (404) when it isn't there."""
    document = provisioning.find(emu, KIND, name)
    if document is None:
        raise not_found(f"Serverless endpoint {name}")
    return document


def _checked_model(emu: Emulator, model: str) -> str:
    """The registry model behind an id. Raises `ApiError` for ids in the wrong form and for what isn't there."""
    if match := _REGISTRY.fullmatch(model):
        if match["pick"]:
            message = f"The model id {model} names a version, which is not supported: leave the version out."
            raise ApiError(400, "BadRequest", message, "InvalidModelId")
        references.find_asset(emu, f"{model}/labels/latest")
        base = model
    elif match := _WORKSPACE.fullmatch(model):
        if not match["pick"]:
            raise ApiError(400, "BadRequest", f"The model id {model} needs a version.", "InvalidModelId")
        if match["location"].lower() != emu.settings.location.lower():
            message = f"The model {model} is in another region than the workspace."
            raise ApiError(400, "BadRequest", message, "InvalidModelId")
        base = _fine_tuned_from(emu, model)
    else:
        raise ApiError(400, "BadRequest", f"The model id {model} is not valid.", "InvalidModelId")
    if marketplace.needs_subscription(base) and marketplace.subscribed(emu, base) is None:
        message = (
            f"The model {marketplace.base_model(base)} needs a marketplace subscription, and this workspace has none."
        )
        raise ApiError(400, "BadRequest", message, "MarketplaceSubscriptionRequired")
    return base


def _fine_tuned_from(emu: Emulator, model: str) -> str:
    """The registry model from which a workspace's model was fine-tuned; only such can be served serverlessly."""
    asset = references.find_asset(emu, model)
    job = emu.state.get("job", str(asset.properties.get("jobName") or "")) if asset is not None else None
    details = (job or {}).get("properties", {}).get("fineTuningDetails")
    if not details:
        message = f"The model {model} was not made by serverless fine-tuning and cannot be served serverlessly."
        raise ApiError(400, "BadRequest", message, "ModelNotSupported")
    return str(details["model"]["uri"])


def _json(emu: Emulator, document: Document) -> dict[str, Any]:
    state = provisioning.state_of(emu, document)
    name = document["name"]
    return {
        "id": f"{resource_id(emu)}/serverlessEndpoints/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/serverlessEndpoints",
        "location": document["location"],
        "tags": document["tags"],
        "sku": {"name": "Consumption"},
        "kind": None,
        "systemData": system_data(emu, document["created"], document["modified"]),
        "properties": {
            "authMode": "Key",
            "contentSafety": {"contentSafetyStatus": "Enabled"},
            "endpointState": "Online" if state == "Succeeded" else state,
            "inferenceEndpoint": {"uri": f"{emu.url}/serverless/{name}", "headers": {}},
            "marketplaceSubscriptionId": marketplace.subscribed(emu, document["base"]),
            "modelSettings": {"modelId": document["model"]},
            "provisioningState": state,
        },
    }


_PATH = WORKSPACE + "/serverlessEndpoints"
ROUTES = (
    Route("GET", _PATH, list_endpoints),
    Route("GET", _PATH + "/{name}", get_endpoint),
    Route("PUT", _PATH + "/{name}", put_endpoint),
    Route("PATCH", _PATH + "/{name}", patch_endpoint),
    Route("DELETE", _PATH + "/{name}", delete_endpoint),
    Route("POST", _PATH + "/{name}/listKeys", list_keys),
    Route("POST", _PATH + "/{name}/regenerateKeys", regenerate_keys),
)
