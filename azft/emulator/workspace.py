"""The one workspace: its resource, its list, and the addresses that it tells its clients."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from azft.emulator.http import PROVIDER, WORKSPACE, ApiError, Request, Response, Route
from azft.emulator.settings import ACCOUNT, TENANT

if TYPE_CHECKING:
    from azft.emulator.app import Emulator


def resource_id(emu: Emulator) -> str:
    """The workspace's ARM id."""
    names = {
        "subscription": emu.settings.subscription,
        "group": emu.settings.resource_group,
        "workspace": emu.settings.workspace,
    }
    return WORKSPACE.format(**names)


def workspace_guid(emu: Emulator) -> str:
    """The workspace's own id, made from its ARM id."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, resource_id(emu).lower()))


def check_workspace(emu: Emulator, request: Request) -> None:
    """Raise `ApiError` unless the path names the workspace that exists; called for every path below one."""
    wanted = request.params
    if wanted["subscription"].lower() != emu.settings.subscription:
        message = f"The subscription '{wanted['subscription']}' could not be found."
        raise ApiError(404, "SubscriptionNotFound", message)
    if wanted["group"].lower() != emu.settings.resource_group.lower():
        raise ApiError(404, "ResourceGroupNotFound", f"Resource group '{wanted['group']}' could not be found.")
    if wanted["workspace"].lower() != emu.settings.workspace.lower():
        message = (
            f"The Resource 'Microsoft.MachineLearningServices/workspaces/{wanted['workspace']}' under resource group "
            f"'{wanted['group']}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
        )
        raise ApiError(404, "ResourceNotFound", message)


def document(emu: Emulator) -> dict[str, Any]:
    """The workspace as ARM shows it."""
    whole = resource_id(emu)
    guid = workspace_guid(emu)
    host = emu.url.split("//")[1]
    base = f"/subscriptions/{emu.settings.subscription}/resourceGroups/{emu.settings.resource_group}/providers"
    return {
        "id": whole,
        "name": emu.settings.workspace,
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": emu.settings.location,
        "kind": "Default",
        "tags": {},
        "identity": {"type": "SystemAssigned", "principalId": guid, "tenantId": TENANT},
        "sku": {"name": "Basic", "tier": "Basic"},
        "systemData": system_data(emu, emu.created),
        "properties": {
            "friendlyName": emu.settings.workspace,
            "description": "A rehearsal on this machine; not Azure.",
            "workspaceId": guid,
            "provisioningState": "Succeeded",
            "tenantId": TENANT,
            "discoveryUrl": f"{emu.url}/discovery",
            "mlFlowTrackingUri": f"azureml://{host}/mlflow/v1.0{whole}",
            "storageAccount": f"{base}/Microsoft.Storage/storageAccounts/{ACCOUNT}",
            "keyVault": f"{base}/Microsoft.KeyVault/vaults/azft-rehearsal",
            "applicationInsights": f"{base}/Microsoft.Insights/components/azft-rehearsal",
            "containerRegistry": None,
            "publicNetworkAccess": "Enabled",
            "hbiWorkspace": False,
            "v1LegacyMode": False,
            "systemDatastoresAuthMode": "accesskey",
        },
    }


def system_data(emu: Emulator, created: float, modified: float | None = None) -> dict[str, str]:
    """Who made a resource and when; the SDK wants both times."""
    who = {"createdBy": "azft emulator", "createdByType": "Application"}
    changed = {"lastModifiedBy": "azft emulator", "lastModifiedByType": "Application"}
    when = emu.clock.timestamp(created if modified is None else modified)
    return {**who, "createdAt": emu.clock.timestamp(created), **changed, "lastModifiedAt": when}


def get_workspace(emu: Emulator, request: Request) -> Response:
    """GET the workspace."""
    return Response(200, document(emu))


def list_workspaces(emu: Emulator, request: Request) -> Response:
    """GET the workspaces of a subscription or a resource group: the one, if it is there."""
    if request.params["subscription"].lower() != emu.settings.subscription:
        message = f"The subscription '{request.params['subscription']}' could not be found."
        raise ApiError(404, "SubscriptionNotFound", message)
    group = request.params.get("group")
    if group is not None and group.lower() != emu.settings.resource_group.lower():
        raise ApiError(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
    return Response(200, {"value": [document(emu)]})


def get_discovery(emu: Emulator, request: Request) -> Response:
    """GET /discovery: where the workspace's data planes are; here, all at one address."""
    services = (
        "api", "catalog", "experimentation", "gallery", "history", "hyperdrive", "labeling", "modelmanagement",
        "pipelines", "studio", "notebooks", "metric", "artifact",
    )  # fmt: skip
    return Response(200, dict.fromkeys(services, emu.url))


def get_permissions(emu: Emulator, request: Request) -> Response:
    """GET what the caller may do in the workspace: everything, as an owner."""
    return Response(200, {"value": [{"actions": ["*"], "notActions": [], "dataActions": [], "notDataActions": []}]})


ROUTES = (
    Route("GET", WORKSPACE, get_workspace),
    Route("GET", WORKSPACE + "/providers/Microsoft.Authorization/permissions", get_permissions),
    Route("GET", PROVIDER + "/workspaces", list_workspaces),
    Route(
        "GET",
        "/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/workspaces",
        list_workspaces,
    ),
    Route("GET", "/discovery", get_discovery, auth="none"),
)
