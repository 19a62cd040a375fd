"""Microsoft's clients as they come, led to an emulator; what azft's own connection does is not used here."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from azft.emulator import Emulator

_numbers = itertools.count()


def lead(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment and the one template that the SDK has no setting for: the blob host's."""
    from azure.ai.ml.constants import _common

    for name, value in emu.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AZUREML_CURRENT_CLOUD", "AzureCloud")
    monkeypatch.setitem(_common.STORAGE_ACCOUNT_URLS, "AzureBlob", f"{emu.url}/{{}}")


def ml_client(emu: Emulator, *, registry: str | None = None) -> Any:
    """An MLClient of the workspace, or of a registry."""
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

    scope: dict[str, Any] = {"registry_name": registry}
    if registry is None:
        settings = emu.settings
        scope = {"subscription_id": settings.subscription, "resource_group_name": settings.resource_group}
        scope["workspace_name"] = settings.workspace
    metadata = {
        "azure_portal": emu.url,
        "resource_manager": f"{emu.url}/",
        "active_directory": f"{emu.url}/",
        "aml_resource_id": "https://ml.azure.com/",
        "storage_endpoint": "core.windows.net",
        "registry_discovery_endpoint": f"{emu.url}/",
    }
    return MLClient(
        DefaultAzureCredential(),
        **scope,
        cloud=f"emulator-{next(_numbers)}",
        cloud_metadata=metadata,
        enable_telemetry=False,
        show_progress=False,
        retry_total=0,
    )


def blob_client(emu: Emulator, credential: Any, **options: Any) -> Any:
    """A container client of the workspace's own container."""
    from azure.storage.blob import BlobServiceClient

    options = {"retry_total": 0, **options}
    account = BlobServiceClient(f"{emu.url}/azftrehearsal", credential=credential, **options)
    return account.get_container_client("azureml-blobstore")


def sent(emu: Emulator, *parts: str) -> list[dict[str, Any]]:
    """The requests whose path contains all of `parts`."""
    return [entry for entry in emu.log.list() if all(part in entry["path"] for part in parts)]
