"""The storage account, by azure-storage-blob as it comes."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.storage.blob import (
    BlobClient,
    ContainerClient,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)

from azft.emulator import Emulator, storage_access
from azft.emulator.settings import ACCOUNT, CONTAINER
from tests.helpers.azure_sdk import blob_client

SMALL = {"max_single_put_size": 1000, "max_block_size": 700, "max_single_get_size": 500, "max_chunk_get_size": 300}
NAME = "a folder/b c#ü%2F/x+y.txt"


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def credentials(emu: Emulator) -> dict[str, Any]:
    key = storage_access.account_key(emu)
    everything = {"permission": "racwdl", "expiry": in_an_hour()}
    return {
        "identity": DefaultAzureCredential(),
        "shared key": key,
        "datastore's SAS": storage_access.account_sas(emu, "racwdl"),
        "container SAS": storage_access.sas(emu, permissions="racwdl"),
        "container SAS of the SDK": generate_container_sas(ACCOUNT, CONTAINER, key, **everything),
        "account SAS of the SDK": generate_account_sas(ACCOUNT, key, resource_types="sco", **everything),
    }


@pytest.mark.parametrize("which", list(credentials(Emulator())))
def test_blobs_are_written_and_read_with_every_kind_of_credential(core: Emulator, which: str) -> None:
    container = blob_client(core, credentials(core)[which], **SMALL)
    blob = container.get_blob_client(NAME)
    blob.upload_blob(b"hello", metadata={"one": "1"})
    found = blob.get_blob_properties()
    assert (found.size, dict(found.metadata)) == (5, {"one": "1"})
    assert blob.download_blob().readall() == b"hello"
    large = os.urandom(5000)
    container.upload_blob("large", large)
    assert container.download_blob("large").readall() == large
    assert container.download_blob("large", offset=4990, length=100).readall() == large[4990:]
    assert [item.name for item in container.list_blobs()] == [NAME, "large"]
    container.delete_blob("large")
    assert not container.get_blob_client("large").exists()


def test_the_same_over_tls(listening: Emulator) -> None:
    container = blob_client(listening, DefaultAzureCredential(), **SMALL)
    large = os.urandom(50_000)
    container.get_blob_client(NAME).upload_blob(large, max_concurrency=4)
    assert container.download_blob(NAME, max_concurrency=4).readall() == large
    assert listening.blob_path(ACCOUNT, CONTAINER, NAME).read_bytes() == large


def test_a_blob_is_a_file_and_a_file_is_a_blob(core: Emulator) -> None:
    container = blob_client(core, DefaultAzureCredential())
    path = core.blob_path(ACCOUNT, CONTAINER, "azureml/job/output/weights.bin")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"written by a job")
    assert container.download_blob("azureml/job/output/weights.bin").readall() == b"written by a job"
    container.upload_blob("azureml/job/output/weights.bin", b"by a client", overwrite=True)
    assert path.read_bytes() == b"by a client"
    assert [file.name for file in path.parent.iterdir()] == ["weights.bin"]  # nothing half-written beside it


def test_conditions_are_honoured(core: Emulator) -> None:
    container = blob_client(core, DefaultAzureCredential())
    blob = container.get_blob_client("x")
    with pytest.raises(ResourceNotFoundError) as missing:
        blob.download_blob()
    assert missing.value.error_code == "BlobNotFound"
    blob.upload_blob(b"1")
    with pytest.raises(ResourceExistsError) as there:
        blob.upload_blob(b"2")
    assert there.value.error_code == "BlobAlreadyExists"
    etag = blob.get_blob_properties().etag
    blob.set_blob_metadata({"a": "b"})
    with pytest.raises(ResourceModifiedError):
        blob.download_blob(etag=etag, match_condition=_if_same())
    assert blob.download_blob().readall() == b"1"


def _if_same() -> Any:
    from azure.core import MatchConditions

    return MatchConditions.IfNotModified


def test_lists_come_in_pages_and_by_folder(core: Emulator) -> None:
    container = blob_client(core, DefaultAzureCredential())
    names = ["a/1", "a/2", "a/b/3", "a-b", "c", "d e&f"]
    for name in names:
        container.upload_blob(name, b"", metadata={"n": "<&>"})
    assert [item.name for item in container.list_blobs(results_per_page=2)] == sorted(names)
    assert [item.name for item in container.list_blobs(name_starts_with="a/")] == ["a/1", "a/2", "a/b/3"]
    assert [item.name for item in container.walk_blobs(name_starts_with="a", delimiter="/", results_per_page=1)] == [
        "a-b",
        "a/",
    ]
    assert next(iter(container.list_blobs(include="metadata"))).metadata == {"n": "<&>"}


def test_a_marker_of_a_folder_is_a_blob_with_blobs_below(core: Emulator) -> None:
    container = blob_client(core, DefaultAzureCredential())
    container.upload_blob("folder", b"", metadata={"hdi_isfolder": "true"})
    container.upload_blob("folder/file", b"1")
    assert [item.name for item in container.list_blobs()] == ["folder", "folder/file"]
    with pytest.raises(HttpResponseError) as caught:
        container.upload_blob("folder/file/below", b"1")
    assert caught.value.error_code == "ResourceTypeMismatch"


def test_blocks_without_their_list_are_no_blob(core: Emulator) -> None:
    container = blob_client(core, DefaultAzureCredential())
    blob = container.get_blob_client("x")
    blob.stage_block("one", b"1" * 10)
    assert not blob.exists()
    with pytest.raises(HttpResponseError) as caught:
        blob.commit_block_list(["one", "two"])
    assert caught.value.error_code == "InvalidBlockList"
    blob.stage_block("two", b"2")
    blob.commit_block_list(["one", "two"])
    assert blob.download_blob().readall() == b"1111111111" + b"2"


def test_a_sas_opens_what_it_names_and_no_more(core: Emulator) -> None:
    blob_client(core, DefaultAzureCredential()).upload_blob("mine", b"1")
    key = storage_access.account_key(core)
    url = f"{core.url}/{ACCOUNT}/{CONTAINER}"

    def code(blob: str, token: str, method: str = "GET") -> str:
        found = requests.request(method, f"{url}/{blob}?{token}", timeout=10, headers={"x-ms-blob-type": "BlockBlob"})
        return found.headers.get("x-ms-error-code", str(found.status_code))

    read = generate_blob_sas(ACCOUNT, CONTAINER, "mine", account_key=key, permission="r", expiry=in_an_hour())
    assert code("mine", read) == "200"
    assert code("mine", read, "PUT") == "AuthorizationPermissionMismatch"
    assert code("other", read) == "AuthenticationFailed"
    assert code("mine", read.replace("sp=r", "sp=rw")) == "AuthenticationFailed"
    ended = datetime.now(UTC) - timedelta(minutes=1)
    old = generate_blob_sas(ACCOUNT, CONTAINER, "mine", account_key=key, permission="r", expiry=ended)
    assert code("mine", old) == "AuthenticationFailed"
    assert code("mine", "") == "NoAuthenticationInformation"
    assert code("mine", storage_access.sas(core, container="azureml")) == "AuthenticationFailed"


def test_a_token_for_another_resource_opens_nothing(core: Emulator) -> None:
    token = DefaultAzureCredential().get_token("https://management.azure.com/.default").token
    found = requests.get(
        f"{core.url}/{ACCOUNT}/{CONTAINER}/x", timeout=10, headers={"Authorization": f"Bearer {token}"}
    )
    assert (found.status_code, found.headers["x-ms-error-code"]) == (401, "InvalidAuthenticationInfo")


def test_with_keys_disabled_identities_work_and_keys_do_not(core: Emulator) -> None:
    blob_client(core, DefaultAzureCredential()).upload_blob("x", b"1")
    by_key = credentials(core)
    core.faults.add("storage-keys-disabled", times=-1)
    for which, credential in by_key.items():
        container = blob_client(core, credential)
        if which == "identity":
            assert container.download_blob("x").readall() == b"1"
            continue
        with pytest.raises(HttpResponseError) as caught:
            container.download_blob("x")
        assert (caught.value.status_code, caught.value.error_code) == (403, "KeyBasedAuthenticationNotPermitted"), which
    assert BlobClient.from_blob_url(storage_access.sas_url(core, "x")).download_blob().readall() == b"1"
    whole = ContainerClient.from_container_url(storage_access.sas_url(core, permissions="l"))
    assert [item.name for item in whole.list_blobs()] == ["x"]


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "%2e%2e/secret"])
def test_nothing_outside_the_blobs_can_be_reached(core: Emulator, name: str) -> None:
    (core.state.root / "blobs" / ACCOUNT).mkdir(parents=True, exist_ok=True)
    (core.state.root / "blobs" / ACCOUNT / "secret").write_text("no")
    session = requests.Session()
    request = requests.Request("GET", f"{core.url}/{ACCOUNT}/{CONTAINER}/x?{storage_access.account_sas(core, 'r')}")
    prepared = session.prepare_request(request)
    assert prepared.url is not None
    prepared.url = prepared.url.replace("/x?", f"/{name}?")
    assert session.send(prepared, timeout=10).status_code == 400


def test_the_accounts_public_name_leads_here_too(core: Emulator) -> None:
    blob_client(core, DefaultAzureCredential()).upload_blob("x", b"1")
    url = f"https://{ACCOUNT}.blob.core.windows.net/{CONTAINER}/x?{storage_access.sas(core, 'x')}"
    assert requests.get(url, timeout=10).content == b"1"


def test_a_log_that_grows_is_read_by_offset(core: Emulator) -> None:
    path = core.blob_path(ACCOUNT, "azureml", "ExperimentRun/dcid.1/user_logs/std_log.txt")
    path.parent.mkdir(parents=True)
    url = storage_access.sas_url(core, "ExperimentRun/dcid.1/user_logs/std_log.txt", container="azureml")
    read = b""
    for part in (b"one\n", b"two\nthr", b"ee\n"):
        with path.open("ab") as file:
            file.write(part)
        found = requests.get(url, timeout=10, headers={"x-ms-range": f"bytes={len(read)}-"})
        assert found.status_code == 206
        assert (
            found.headers["Content-Range"] == f"bytes {len(read)}-{len(read) + len(part) - 1}/{len(read) + len(part)}"
        )
        read += found.content
    assert read == b"one\ntwo\nthree\n"
    nothing = requests.get(url, timeout=10, headers={"x-ms-range": f"bytes={len(read)}-"})
    assert (nothing.status_code, nothing.headers["Content-Range"]) == (416, f"bytes */{len(read)}")
