"""Managed online endpoints: a name, two keys, and which share of the traffic each deployment gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from azft.emulator import online_deployments, provisioning
from azft.emulator.endpoint_keys import new_keys, regenerated
from azft.emulator.http import WORKSPACE, ApiError, Request, Response, Route
from azft.emulator.online_documents import ENDPOINT, find_endpoint
from azft.emulator.state import Document
from azft.emulator.workspace import resource_id, system_data

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_NAME = re.compile(r"[a-zA-Z](?:[a-zA-Z0-9-]{1,30})[a-zA-Z0-9]")


def put_endpoint(emu: Emulator, request: Request) -> Response:
    """PUT an endpoint: created, or its traffic and tags changed."""
    name, body = request.params["name"], request.json()
    if _NAME.fullmatch(name) is None:
        message = f"The endpoint name {name} is invalid: 3 to 32 letters, digits and hyphens, beginning with a letter."
        raise ApiError(400, "BadRequest", message)
    properties = body.get("properties") or {}
    before = provisioning.find(emu, ENDPOINT, name)
    traffic = {str(key): int(value) for key, value in (properties.get("traffic") or {}).items()}
    _check_traffic(emu, name, traffic)
    auth = str(properties.get("authMode") or "Key")
    if auth.lower() != "key":
        raise ApiError(501, "NotEmulated", f"The emulator covers endpoints with keys, not authMode {auth}.")
    fields = {
        "name": name,
        "location": str(body.get("location") or emu.settings.location),
        "tags": body.get("tags") or {},
        "description": properties.get("description"),
        "properties": properties.get("properties") or {},
        "traffic": traffic,
        "keys": new_keys() if before is None else before["keys"],
    }
    document, headers, new = provisioning.put(emu, ENDPOINT, name, fields)
    return Response(201 if new else 200, _json(emu, document), headers)


def get_endpoint(emu: Emulator, request: Request) -> Response:
    """GET an endpoint."""
    return Response(200, _json(emu, find_endpoint(emu, request.params["name"])))


def list_endpoints(emu: Emulator, request: Request) -> Response:
    """GET all endpoints."""
    return Response(200, {"value": [_json(emu, document) for document in provisioning.every(emu, ENDPOINT)]})


def delete_endpoint(emu: Emulator, request: Request) -> Response:
    """DELETE an endpoint with its deployments."""
    name = request.params["name"]
    for deployment in provisioning.every(emu, online_deployments.KIND, f"{name}/"):
        online_deployments.end(emu, deployment)
    return provisioning.delete(emu, ENDPOINT, name)


def list_keys(emu: Emulator, request: Request) -> Response:
    """POST listKeys."""
    return Response(200, find_endpoint(emu, request.params["name"])["keys"])


def regenerate_keys(emu: Emulator, request: Request) -> Response:
    """POST regenerateKeys."""
    document = find_endpoint(emu, request.params["name"])
    keys = regenerated(document["keys"], request.json())
    emu.state.put(ENDPOINT, document["name"].lower(), {**document, "keys": keys})
    return Response(200, None)


def _check_traffic(emu: Emulator, name: str, traffic: dict[str, int]) -> None:
    there = {deployment["name"] for deployment in provisioning.every(emu, online_deployments.KIND, f"{name}/")}
    missing = sorted(key for key, share in traffic.items() if share and key not in there)
    if missing:
        raise ApiError(400, "BadRequest", f"Traffic goes to deployments that are not there: {', '.join(missing)}.")
    total = sum(traffic.values())
    if total not in {0, 100}:
        raise ApiError(400, "BadRequest", f"The shares of the traffic must add up to 0 or 100; they make {total}.")


def _json(emu: Emulator, document: Document) -> dict[str, Any]:
    name = document["name"]
    base = f"{emu.url}/online/{name}"
    return {
        "id": f"{resource_id(emu)}/onlineEndpoints/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints",
        "location": document["location"],
        "tags": document["tags"],
        "kind": "Managed",
        "identity": {"type": "SystemAssigned", "principalId": None, "tenantId": None},
        "systemData": system_data(emu, document["created"], document["modified"]),
        "properties": {
            "authMode": "Key",
            "description": document["description"],
            "properties": document["properties"],
            "scoringUri": base + online_deployments.scoring_path(emu, document),
            "swaggerUri": f"{base}/swagger.json",
            "traffic": document["traffic"],
            "mirrorTraffic": {},
            "compute": None,
            "publicNetworkAccess": "Enabled",
            "provisioningState": provisioning.state_of(emu, document),
        },
    }


_PATH = WORKSPACE + "/onlineEndpoints"
ROUTES = (
    Route("GET", _PATH, list_endpoints),
    Route("GET", _PATH + "/{name}", get_endpoint),
    Route("PUT", _PATH + "/{name}", put_endpoint),
    Route("DELETE", _PATH + "/{name}", delete_endpoint),
    Route("POST", _PATH + "/{name}/listKeys", list_keys),
    Route("POST", _PATH + "/{name}/regenerateKeys", regenerate_keys),
)
