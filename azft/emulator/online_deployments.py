"""Deployments of an online endpoint: a model on machines, with Azure's own MLflow server or an image of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.emulator import assets, compute, provisioning, references
from azft.emulator.http import WORKSPACE, ApiError, Request, Response, Route, not_found
from azft.emulator.online_documents import find_endpoint
from azft.emulator.serving import ModelServers
from azft.emulator.state import Document
from azft.emulator.workspace import resource_id, system_data

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

KIND = "online-deployment"
_SCORE = "/score"


def put_deployment(emu: Emulator, request: Request) -> Response:
    """PUT a deployment: created, or replaced."""
    endpoint, name, body = find_endpoint(emu, request.params["endpoint"]), request.params["name"], request.json()
    properties = body.get("properties") or {}
    key = f"{endpoint['name']}/{name}"
    count = int((body.get("sku") or {}).get("capacity") or 1)
    size = _checked_size(emu, str(properties.get("instanceType") or ""), count, key)
    asset = references.find_asset(emu, str(properties.get("model") or ""), "models")
    if asset is None:
        raise ApiError(400, "BadRequest", f"{properties.get('model')} is no registered model.", "InvalidModel")
    environment = properties.get("environmentId")
    if environment:
        references.find_asset(emu, str(environment), "environments")
    elif asset.properties.get("modelType") != "mlflow_model":
        message = "A deployment without an environment needs a model of type mlflow_model."
        raise ApiError(400, "BadRequest", message, "InvalidDeployment")
    fields = {
        "name": name,
        "endpoint": endpoint["name"],
        "location": str(body.get("location") or emu.settings.location),
        "tags": body.get("tags") or {},
        "capacity": count,
        "properties": properties,
        "model": assets.asset_id(emu, asset.scope, asset.kind, asset.name, asset.version),
    }
    error = _mishap(emu, key, environment)
    document, headers, new = provisioning.put(emu, KIND, key, fields, error=error)
    held = {"family": size.family, "cores": size.vcpus * count, "low_priority": False}
    emu.state.put(compute.CORES_IN_USE, f"deployment/{key.lower()}", held)
    return Response(201 if new else 200, _json(emu, document), headers)


def get_deployment(emu: Emulator, request: Request) -> Response:
    """GET a deployment."""
    return Response(200, _json(emu, _find(emu, request)))


def list_deployments(emu: Emulator, request: Request) -> Response:
    """GET an endpoint's deployments."""
    endpoint = find_endpoint(emu, request.params["endpoint"])
    found = provisioning.every(emu, KIND, f"{endpoint['name']}/")
    return Response(200, {"value": [_json(emu, document) for document in found]})


def delete_deployment(emu: Emulator, request: Request) -> Response:
    """DELETE a deployment that gets no traffic."""
    endpoint, name = find_endpoint(emu, request.params["endpoint"]), request.params["name"]
    if endpoint["traffic"].get(name):
        message = f"The deployment {name} gets {endpoint['traffic'][name]} % of the traffic and cannot be deleted."
        raise ApiError(400, "BadRequest", message, "DeploymentHasTraffic")
    document = provisioning.find(emu, KIND, f"{endpoint['name']}/{name}")
    return Response(204) if document is None else end(emu, document)


def get_logs(emu: Emulator, request: Request) -> Response:
    """POST getLogs: what the model's server, or what fetched the model, has said."""
    document = _find(emu, request)
    body = request.json()
    if str(body.get("containerType") or "InferenceServer").lower() == "storageinitializer":
        lines = [f"Downloading {document['model']}", "Model is ready."]
    elif document.get("error"):
        lines = [str(document["error"]["message"])]
    else:
        lines = [f"Loading {document['model']}", *emu.part(ModelServers).log(model_folder(emu, document))]
    return Response(200, {"content": "\n".join(lines[-int(body.get("tail") or 2000) :]) + "\n"})


def end(emu: Emulator, document: Document) -> Response:
    """Begin a deployment's end, and end the process that answered for it."""
    key = f"{document['endpoint']}/{document['name']}"
    emu.part(ModelServers).end(model_folder(emu, document))
    emu.state.delete(compute.CORES_IN_USE, f"deployment/{key.lower()}")
    return provisioning.delete(emu, KIND, key)


def model_folder(emu: Emulator, document: Document) -> Path:
    """Where a deployment's model lies."""
    return references.folder(emu, str(document["model"]), "models")


def chosen(emu: Emulator, endpoint: Document, wanted: str | None) -> Document:
    """The deployment that answers: the one asked for, else the one with the most traffic. Raises `ApiError`."""
    there = [
        document
        for document in provisioning.every(emu, KIND, f"{endpoint['name']}/")
        if provisioning.state_of(emu, document) == "Succeeded"
    ]
    shares = endpoint["traffic"]
    fitting = [d for d in there if d["name"] == wanted or (wanted is None and shares.get(d["name"]))]
    if not fitting:
        raise ApiError(404, "NoDeployment", f"No deployment of {endpoint['name']} takes this request.")
    return max(fitting, key=lambda document: shares.get(document["name"], 0))


def own_image(document: Document) -> bool:
    """Whether an image of one's own answers, instead of Azure's MLflow server."""
    return bool(document["properties"].get("environmentId"))


def scoring_path(emu: Emulator, endpoint: Document) -> str:
    """The path of the endpoint's scoring address: that of its deployments' image, else `/score`."""
    for document in provisioning.every(emu, KIND, f"{endpoint['name']}/"):
        if own_image(document):
            environment = references.find_asset(emu, str(document["properties"]["environmentId"]), "environments")
            inference = (environment.properties.get("inferenceConfig") if environment else None) or {}
            return str((inference.get("scoringRoute") or {}).get("path") or _SCORE)
    return _SCORE


def _checked_size(emu: Emulator, name: str, count: int, key: str) -> Any:
    size = compute.find_size(emu, name)
    if size is None:
        message = f"The instance type {name!r} is not supported in {emu.settings.location}."
        raise ApiError(400, "BadRequest", message, "InvalidInstanceType")
    mine = emu.state.get(compute.CORES_IN_USE, f"deployment/{key.lower()}") or {"cores": 0}
    free = compute.quota(emu, size.family) - compute.in_use(emu, size.family) + int(mine["cores"])
    if emu.faults.take("quota-exhausted", family=size.family, vm_size=size.name) or size.vcpus * count > free:
        message = (
            f"Not enough quota available for {size.name} in SubscriptionId {emu.settings.subscription}. Current "
            f"usage/limit: {compute.in_use(emu, size.family)}/{compute.quota(emu, size.family)}. Additional needed: "
            f"{size.vcpus * count}. Please see troubleshooting guide, available here: https://aka.ms/oe-tsg#error-outofquota"
        )
        raise ApiError(400, "OutOfQuota", message)
    return size


def _mishap(emu: Emulator, key: str, environment: Any) -> dict[str, Any] | None:
    if environment and emu.faults.take("image-build-failed", deployment=key):
        message = f"Image build failed for environment {environment}. Please look at the image build log."
        return {"code": "ImageBuildFailure", "message": message}
    return None


def _find(emu: Emulator, request: Request) -> Document:
    endpoint, name = find_endpoint(emu, request.params["endpoint"]), request.params["name"]
    document = provisioning.find(emu, KIND, f"{endpoint['name']}/{name}")
    if document is None:
        raise not_found(f"Deployment {name} of {endpoint['name']}")
    return document


def _json(emu: Emulator, document: Document) -> dict[str, Any]:
    given = {key: value for key, value in document["properties"].items() if value is not None}
    return {
        "id": f"{resource_id(emu)}/onlineEndpoints/{document['endpoint']}/deployments/{document['name']}",
        "name": document["name"],
        "type": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments",
        "location": document["location"],
        "tags": document["tags"],
        "kind": "Managed",
        "sku": {"name": "Default", "tier": "Standard", "capacity": document["capacity"]},
        "systemData": system_data(emu, document["created"], document["modified"]),
        "properties": {
            "endpointComputeType": "Managed",
            "scaleSettings": {"scaleType": "Default"},
            "appInsightsEnabled": False,
            "egressPublicNetworkAccess": "Enabled",
            "properties": {},
            **given,
            "provisioningState": provisioning.state_of(emu, document),
        },
    }


_PATH = WORKSPACE + "/onlineEndpoints/{endpoint}/deployments"
ROUTES = (
    Route("GET", _PATH, list_deployments),
    Route("GET", _PATH + "/{name}", get_deployment),
    Route("PUT", _PATH + "/{name}", put_deployment),
    Route("DELETE", _PATH + "/{name}", delete_deployment),
    Route("POST", _PATH + "/{name}/getLogs", get_logs),
)
