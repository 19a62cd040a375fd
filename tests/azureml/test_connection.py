from __future__ import annotations

import os

import pytest

from azft.azureml import connection
from azft.azureml.connection import Access, connect, read_endpoint
from azft.azureml.errors import MissingResourceError
from azft.azureml.workspace import Workspace
from azft.errors import ExitCode, UsageError
from tests.helpers.azure_shop import Azure


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:8000", "https://", "ftp://x", "https://user:pw@host", "https://host/?sig=1", "127.0.0.1:8443"],
)
def test_only_https_gets_a_token(text: str) -> None:
    with pytest.raises(UsageError, match="access tokens are sent there"):
        read_endpoint(text)


def test_an_endpoint_loses_its_last_slash() -> None:
    assert read_endpoint("https://127.0.0.1:8443/") == "https://127.0.0.1:8443"
    assert read_endpoint("") is None


def test_it_knows_the_workspace_and_where_it_is(azure: Azure) -> None:
    made = connect()
    assert made.workspace.name == "azft-rehearsal"
    assert made.workspace.found_by == "the environment"
    assert made.location == made.location == "eastus2"
    assert len(azure.sent("GET", "/workspaces/azft-rehearsal")) == 1


def test_the_same_workspace_is_the_same_connection(azure: Azure) -> None:
    first = connect()
    workspace = first.workspace
    upper = Workspace(workspace.subscription, workspace.resource_group.upper(), workspace.name.upper())
    assert connect() is first
    assert connect(upper) is first
    assert connect(auth="managed-identity") is not first


def test_a_workspace_that_is_not_there_is_told_with_how_it_was_found(azure: Azure) -> None:
    made = Access(workspace="nowhere").connect()
    with pytest.raises(MissingResourceError) as error:
        _ = made.details
    assert error.value.exit_code is ExitCode.NOT_FOUND
    assert "nowhere (found by the environment (subscription, resource group), flags (workspace))" in error.value.message


def test_a_registry_is_found_once(azure: Azure) -> None:
    made = connect()
    assert made.registry("azureml") is made.registry("azureml")
    assert len(azure.sent("GET", "/registrymanagement/")) == 1


def test_the_public_cloud_comes_back_after_an_endpoint(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.ai.ml.constants._common import STORAGE_ACCOUNT_URLS

    assert connect().client is not None
    assert STORAGE_ACCOUNT_URLS["AzureBlob"].startswith(azure.emu.url)
    assert os.environ["AZUREML_CURRENT_CLOUD"].startswith("azft-")
    monkeypatch.delenv("AZFT_AZURE_ENDPOINT")
    public = connect()
    assert public.client is not None
    assert STORAGE_ACCOUNT_URLS["AzureBlob"] == "https://{}.blob.{}"
    assert public.blob_url("account") == "https://account.blob.core.windows.net"


def test_the_sdk_tries_nothing_again_by_itself(azure: Azure) -> None:
    made = connect()
    azure.fault("server-error", path="/workspaces/azft-rehearsal$", times=2)
    assert made.location == "eastus2"
    assert azure.time.slept == [0.5, 1.0]


def test_forgetting_makes_new_ones(azure: Azure) -> None:
    first = connect()
    connection.forget_connections()
    assert connect() is not first
