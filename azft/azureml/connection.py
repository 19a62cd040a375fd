"""A connection to one workspace: the SDK's client, quiet and without retries of its own, and what it learns once.

`AZFT_AZURE_ENDPOINT` names the address where Azure's resource manager is, when it isn't the public one: a sovereign or
private cloud, or the emulator on this machine. Nothing else in azft knows which of them it talks to.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azft.azureml.credentials import Credential, hush, make_credential
from azft.azureml.patience import call
from azft.azureml.workspace import Workspace, find_workspace
from azft.errors import UsageError
from azft.pipeline import need_sdk

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from azft.azureml.storage import Storage

ENDPOINT = "AZFT_AZURE_ENDPOINT"
_PUBLIC_BLOBS = "https://{}.blob.{}"
_OPTIONS = {
    "retry_total": 0,  # azft.azureml.patience is the only one that tries again
    "enable_telemetry": False,
    "show_progress": False,
    "connection_timeout": 20,
    "read_timeout": 90,
    "logging_enable": False,
}
_CLOUD = "AZUREML_CURRENT_CLOUD"
"""The SDK's own variable for the cloud in use; it sets it itself, for the whole process."""

_numbers = itertools.count(1)
_clouds: dict[str, str] = {}
"""Endpoint -> the name under which the SDK knows it; a cloud can be named once a process."""
_known: dict[tuple[Any, ...], Connection] = {}


@dataclass(frozen=True)
class Access:
    """How the user says which workspace and whose sign-in (the flags that all commands share), and what may be made."""

    subscription: str | None = None
    resource_group: str | None = None
    workspace: str | None = None
    auth: str = "default"
    create_compute: bool = False
    """Whether a cluster that isn't there is made."""

    def find(self) -> Workspace:
        """The workspace that these flags, or the places behind them, name."""
        return find_workspace(
            subscription=self.subscription, resource_group=self.resource_group, workspace=self.workspace
        )

    def connect(self, workspace: Workspace | None = None) -> Connection:
        """A connection to it, or to a workspace that is known already."""
        return connect(workspace or self.find(), auth=self.auth)


class Connection:
    """One workspace with one sign-in. Cheap to make; asks Azure for nothing until it must."""

    def __init__(self, workspace: Workspace, credential: Any, endpoint: str | None) -> None:
        self.workspace = workspace
        self.credential = credential
        self.endpoint = endpoint
        self._registries: dict[str, MLClient] = {}

    @cached_property
    def client(self) -> MLClient:
        """The workspace's client."""
        return self._client(
            subscription_id=self.workspace.subscription,
            resource_group_name=self.workspace.resource_group,
            workspace_name=self.workspace.name,
        )

    def registry(self, name: str) -> MLClient:
        """The client of a registry (`azureml`, `azureml-meta`, ...); asks once where the registry is."""
        if name not in self._registries:
            self._registries[name] = call(f"Finding the registry {name}", lambda: self._client(registry_name=name))
        return self._registries[name]

    @cached_property
    def details(self) -> Any:
        """The workspace as Azure describes it (the service's `Workspace`). Asks once.

        The SDK's own `workspaces.get` loads mlflow, where that is installed, to write one address another way: seconds.
        """
        what = f"Reading the workspace {self.workspace.name} (found by {self.workspace.found_by})"
        place = self.workspace
        return call(what, lambda: self.client.workspaces._operation.get(place.resource_group, place.name))

    @property
    def location(self) -> str:
        """The workspace's region, e.g. `eastus2`."""
        return str(self.details.location)

    @cached_property
    def storage(self) -> Storage:
        """The workspace's blob store."""
        from azft.azureml.storage import Storage

        return Storage(self)

    def blob_url(self, account: str) -> str:
        """Where an account's blobs are."""
        if self.endpoint is not None:
            return f"{self.endpoint}/{account}"
        from azure.ai.ml._azure_environments import _get_storage_endpoint_from_metadata

        return _PUBLIC_BLOBS.format(account, _get_storage_endpoint_from_metadata())

    def _client(self, **scope: str) -> MLClient:
        with need_sdk("Talking to Azure"):
            from azure.ai.ml import MLClient

            client = MLClient(self.credential, **scope, **_cloud_of(self.endpoint), **_OPTIONS)
        _quiet()  # afterwards: the client sets up loggers of its own
        return client


def connect(
    workspace: Workspace | None = None,
    *,
    auth: str = "default",
    credential: Any = None,
    endpoint: str | None = None,
) -> Connection:
    """A connection to a workspace; the same one when it is asked for again in this process.

    Without a workspace it is found (`find_workspace`). `credential` replaces the one of `auth`. Raises `UsageError` for
    an endpoint that isn't https.
    """
    workspace = workspace or find_workspace()
    endpoint = read_endpoint(endpoint or os.environ.get(ENDPOINT))
    key = (workspace.id.lower(), auth, endpoint, id(credential) if credential is not None else None)
    if key not in _known:
        _known[key] = Connection(workspace, credential or _credential(auth), endpoint)
    return _known[key]


def forget_connections() -> None:
    """Let go of every connection of this process; for tests that change what is behind an address."""
    _known.clear()
    _credentials.clear()


def read_endpoint(text: str | None) -> str | None:
    """An endpoint without its last slash, None for Azure's public one. Tokens go there, so only https will do."""
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise UsageError(
            f"{ENDPOINT} is no https address without a query: access tokens are sent there.",
            fix="Give one like https://127.0.0.1:8443, or unset it for Azure's public address.",
        )
    return text.rstrip("/")


_credentials: dict[str, Credential] = {}


def _credential(auth: str) -> Credential:
    """One credential for each way of signing in, so that a token is asked for once a process."""
    if auth not in _credentials:
        _credentials[auth] = make_credential(auth)
    return _credentials[auth]


def _cloud_of(endpoint: str | None) -> dict[str, Any]:
    """The SDK's arguments for an endpoint; also points its one table of blob addresses there."""
    from azure.ai.ml.constants._common import STORAGE_ACCOUNT_URLS

    if endpoint is None:
        STORAGE_ACCOUNT_URLS["AzureBlob"] = _PUBLIC_BLOBS
        if os.environ.get(_CLOUD, "").startswith("azft-"):  # of an earlier connection of this process
            del os.environ[_CLOUD]
        return {}
    STORAGE_ACCOUNT_URLS["AzureBlob"] = f"{endpoint}/{{}}"
    if endpoint not in _clouds:
        _clouds[endpoint] = f"azft-{os.getpid()}-{next(_numbers)}"
    return {
        "cloud": _clouds[endpoint],
        "cloud_metadata": {
            "azure_portal": f"{endpoint}/",
            "resource_manager": f"{endpoint}/",
            "active_directory": f"{endpoint}/",
            "aml_resource_id": "https://ml.azure.com/",
            "storage_endpoint": urlsplit(endpoint).netloc,
            "registry_discovery_endpoint": f"{endpoint}/",
        },
    }


def _quiet() -> None:
    """Keep the SDKs' own lines off a person's terminal; errors reach them translated."""
    hush("azure", "azure.ai.ml", "azure.identity", "azure.core", "azure.storage", "msrest", "urllib3")
