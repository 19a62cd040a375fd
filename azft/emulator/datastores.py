"""The workspace's datastores: names for containers of its storage account, and the secrets that open them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azft.emulator import storage_access
from azft.emulator.http import WORKSPACE, ApiError, Request, Response, Route, not_found
from azft.emulator.settings import ACCOUNT, CONTAINER
from azft.emulator.workspace import resource_id, system_data

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

CONTAINERS = {"workspaceblobstore": CONTAINER, "workspaceartifactstore": "azureml"}
DEFAULT = "workspaceblobstore"


def _document(emu: Emulator, name: str) -> dict[str, Any]:
    if name not in CONTAINERS:
        raise not_found(f"Datastore {name}")
    by_identity = _identity_based(emu)
    return {
        "id": f"{resource_id(emu)}/datastores/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/datastores",
        "systemData": system_data(emu, emu.created),
        "properties": {
            "datastoreType": "AzureBlob",
            "description": None,
            "tags": {},
            "properties": None,
            "isDefault": name == DEFAULT,
            "accountName": ACCOUNT,
            "containerName": CONTAINERS[name],
            "endpoint": "core.windows.net",
            "protocol": "https",
            "serviceDataAccessAuthIdentity": "WorkspaceSystemAssignedIdentity" if by_identity else "None",
            "credentials": {"credentialsType": "None" if by_identity else "AccountKey"},
        },
    }


def _identity_based(emu: Emulator) -> bool:
    """Whether the workspace knows that the keys are disabled.

    With the fault's param `workspace: accesskey` it doesn't, as after someone switched the keys off behind its back:
    it goes on handing out SAS tokens, which the storage account then refuses.
    """
    fault = emu.faults.active("storage-keys-disabled")
    return fault is not None and fault.params.get("workspace", "identity") == "identity"


def get_datastore(emu: Emulator, request: Request) -> Response:
    """GET one datastore."""
    return Response(200, _document(emu, request.params["name"]))


def list_datastores(emu: Emulator, request: Request) -> Response:
    """GET all, or with ?isDefault=true the default one."""
    names = [name for name in CONTAINERS if request.query.get("isDefault", "").lower() != "true" or name == DEFAULT]
    return Response(200, {"value": [_document(emu, name) for name in names]})


def list_secrets(emu: Emulator, request: Request) -> Response:
    """POST listSecrets: a SAS when the client asks for what expires, else the account's key."""
    name = request.params["name"]
    _document(emu, name)
    if _identity_based(emu):
        message = f"Datastore {name} has no credentials: it is accessed by identity."
        raise ApiError(400, "UserError", message, "BadArgument/NoCredentials")
    if request.json().get("expirableSecret"):
        token = storage_access.account_sas(emu, "racwdl")
        return Response(200, {"secretsType": "Sas", "sasToken": token})
    return Response(200, {"secretsType": "AccountKey", "key": storage_access.account_key(emu)})


ROUTES = (
    Route("GET", WORKSPACE + "/datastores", list_datastores),
    Route("GET", WORKSPACE + "/datastores/{name}", get_datastore),
    Route("POST", WORKSPACE + "/datastores/{name}/listSecrets", list_secrets),
)
