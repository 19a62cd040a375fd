"""Marketplace subscriptions: what a model of another publisher than Microsoft needs before it is served."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from azft.emulator import provisioning
from azft.emulator.http import WORKSPACE, ApiError, Request, Response, Route, not_found
from azft.emulator.state import Document
from azft.emulator.workspace import resource_id, system_data

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

KIND = "marketplace-subscription"
_MODEL = re.compile(
    r"azureml://registries/(?P<registry>[^/]+)/models/(?P<model>[^/]+)(?P<version>/(?:versions|labels)/.+)?"
)
_MICROSOFT = frozenset({"azureml", "azureml-staging", "azureml-openai-oss"})
"""Registries whose models need no subscription."""


def base_model(model_id: str) -> str:
    """A registry model's id without its version, in lower case."""
    return re.sub(r"/(?:versions|labels)/[^/]+$", "", model_id).lower()


def needs_subscription(model_id: str) -> bool:
    """Whether a registry model is another publisher's."""
    match = _MODEL.fullmatch(model_id)
    return match is not None and match["registry"].lower() not in _MICROSOFT


def subscribed(emu: Emulator, model_id: str) -> str | None:
    """The id of the subscription to a model, if there is one that is ready."""
    for document in provisioning.every(emu, KIND):
        if base_model(document["model"]) == base_model(model_id) and _succeeded(emu, document):
            return f"{resource_id(emu)}/marketplaceSubscriptions/{document['name']}"
    return None


def _succeeded(emu: Emulator, document: Document) -> bool:
    return provisioning.state_of(emu, document) == "Succeeded"


def put_subscription(emu: Emulator, request: Request) -> Response:
    """PUT a subscription to a model."""
    name = request.params["name"]
    model = str((request.json().get("properties") or {}).get("modelId") or "")
    match = _MODEL.fullmatch(model)
    if match is None or match["version"]:
        message = f"The model id {model} is not valid: a registry model's id without a version is expected."
        raise ApiError(400, "BadRequest", message)
    if not needs_subscription(model):
        raise ApiError(400, "BadRequest", f"The model {model} needs no marketplace subscription.")
    before = provisioning.find(emu, KIND, name)
    if before is not None and base_model(before["model"]) != base_model(model):
        raise ApiError(409, "Conflict", f"The subscription {name} is to another model.")
    document, headers, new = provisioning.put(emu, KIND, name, {"name": name, "model": model})
    return Response(201 if new else 200, _json(emu, document), headers)


def get_subscription(emu: Emulator, request: Request) -> Response:
    """GET a subscription."""
    document = provisioning.find(emu, KIND, request.params["name"])
    if document is None:
        raise not_found(f"Marketplace subscription {request.params['name']}")
    return Response(200, _json(emu, document))


def list_subscriptions(emu: Emulator, request: Request) -> Response:
    """GET all subscriptions."""
    return Response(200, {"value": [_json(emu, document) for document in provisioning.every(emu, KIND)]})


def delete_subscription(emu: Emulator, request: Request) -> Response:
    """DELETE a subscription."""
    return provisioning.delete(emu, KIND, request.params["name"])


def _json(emu: Emulator, document: Document) -> dict[str, Any]:
    match = _MODEL.fullmatch(document["model"])
    assert match is not None
    ready = _succeeded(emu, document)
    return {
        "id": f"{resource_id(emu)}/marketplaceSubscriptions/{document['name']}",
        "name": document["name"],
        "type": "Microsoft.MachineLearningServices/workspaces/marketplaceSubscriptions",
        "systemData": system_data(emu, document["created"], document["modified"]),
        "properties": {
            "modelId": document["model"],
            "marketplacePlan": {
                "publisherId": match["registry"].removeprefix("azureml-"),
                "offerId": match["model"].lower(),
                "planId": "fine-tuned",
            },
            "marketplaceSubscriptionStatus": "Subscribed" if ready else "PendingFulfillmentStart",
            "provisioningState": provisioning.state_of(emu, document),
        },
    }


ROUTES = (
    Route("GET", WORKSPACE + "/marketplaceSubscriptions", list_subscriptions),
    Route("GET", WORKSPACE + "/marketplaceSubscriptions/{name}", get_subscription),
    Route("PUT", WORKSPACE + "/marketplaceSubscriptions/{name}", put_subscription),
    Route("DELETE", WORKSPACE + "/marketplaceSubscriptions/{name}", delete_subscription),
)
