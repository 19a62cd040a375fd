"""Uploads: by content, whole or not at all, once; with keys, and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from azft.azureml import uploads
from azft.azureml.connection import Connection
from azft.azureml.errors import ServiceUnavailableError
from azft.azureml.patience import Patience
from azft.azureml.storage import Storage
from azft.errors import StalePlanError
from azft.files import sha256_bytes
from azft.modes.maap import MaapMode
from azft.pipeline import write_parameters
from azft.plan import Plan
from azft.staging import stage_code
from tests.helpers.azure_shop import Azure, plan_in
from tests.helpers.toy import Toy

BLOBS = "/azureml-blobstore/"


@pytest.fixture
def plan(shop: Toy, azure: Azure) -> Plan:
    return plan_in(shop, MaapMode(shop.root), azure)


def bring(azure: Azure, shop: Toy, plan: Plan, told: list[dict[str, Any]] | None = None) -> dict[str, str]:
    code = stage_code(shop.root / "code").folder
    write_parameters(plan, shop.folder / "parameters")
    events: list[dict[str, Any]] = [] if told is None else told
    return uploads.ensure(
        azure.connect(), plan, code=code, parameters=shop.folder / "parameters", on_event=events.append
    )


def test_everything_is_brought_up_once(azure: Azure, shop: Toy, plan: Plan) -> None:
    told: list[dict[str, Any]] = []
    references = bring(azure, shop, plan, told)
    kinds = {event["kind"] for event in told if event["event"] == "uploaded"}
    assert kinds == {"data", "parameters", "code", "environment"}
    data = next(upload for upload in plan.target.uploads if upload.kind == "data")  # type: ignore[union-attr]
    assert references[data.name] == f"azureml:{data.name}:1"
    blob = azure.emu.blob_path("azftrehearsal", "azureml-blobstore", f"azft/data/{data.sha256[:32]}/{data.path.name}")  # type: ignore[union-attr]
    assert blob.read_bytes() == data.path.read_bytes()  # type: ignore[union-attr]


def test_the_second_time_not_a_byte_is_sent(azure: Azure, shop: Toy, plan: Plan) -> None:
    first = bring(azure, shop, plan)
    azure.emu.log.clear()
    told: list[dict[str, Any]] = []
    assert bring(azure, shop, plan, told) == first
    assert {event["event"] for event in told} == {"upload-reused"}
    assert azure.sent("PUT") == []
    # Asking for access to the datastore is the one body that goes out.
    assert sum(e["sent"] for e in azure.emu.log.list() if not e["path"].endswith("/listSecrets")) == 0


def test_two_files_with_the_same_contents_are_one_upload(azure: Azure, shop: Toy, plan: Plan) -> None:
    assert plan.inputs[0].sha256 == plan.inputs[1].sha256
    bring(azure, shop, plan)
    assert len(azure.sent("PUT", BLOBS, "azft/data/")) == 1


def test_the_record_comes_after_the_files(azure: Azure, shop: Toy, plan: Plan) -> None:
    bring(azure, shop, plan)
    puts = [entry["path"] for entry in azure.sent("PUT")]
    code = [number for number, path in enumerate(puts) if "/azft/code/" in path]
    record = next(number for number, path in enumerate(puts) if "/codes/azft-code-" in path)
    assert max(code) < record


def test_a_cut_upload_goes_on_with_what_is_missing(
    azure: Azure, shop: Toy, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("azft.azureml.patience.default_patience", lambda: Patience(attempts=1))
    azure.fault("connection-reset", method="PUT", path=r"azft/code/.*/package/main\.py", times=1)
    with pytest.raises(ServiceUnavailableError):
        bring(azure, shop, plan)
    before = {entry["path"] for entry in azure.sent("PUT", "azft/code/") if entry["status"] == 201}
    assert azure.sent("PUT", "/codes/azft-code-") == []  # no record of something half
    azure.emu.log.clear()
    bring(azure, shop, plan)
    after = {entry["path"] for entry in azure.sent("PUT", "azft/code/")}
    assert before
    assert after
    assert not before & after


def test_a_blob_with_other_contents_at_our_place_is_replaced(azure: Azure, shop: Toy, plan: Plan) -> None:
    storage = azure.connect().storage
    data = plan.target.upload("data")  # type: ignore[union-attr]
    assert data is not None
    path = f"azft/data/{data.sha256[:32]}/{data.path.name}"  # type: ignore[union-attr]
    storage.put(path, b"something else", sha256_bytes(b"something else"))
    bring(azure, shop, plan)
    found = storage.read(path)
    assert found is not None
    assert found.data == data.path.read_bytes()  # type: ignore[union-attr]


def test_a_record_whose_answer_was_lost_is_found_by_looking(azure: Azure, shop: Toy, plan: Plan) -> None:
    azure.fault("answer-lost", method="PUT", path="/codes/azft-code-", times=1)
    bring(azure, shop, plan)
    assert len(azure.sent("PUT", "/codes/azft-code-")) == 1


def test_a_record_that_did_not_arrive_is_sent_again(azure: Azure, shop: Toy, plan: Plan) -> None:
    azure.fault("connection-reset", method="PUT", path="/codes/azft-code-", times=2)
    bring(azure, shop, plan)
    assert [entry["status"] for entry in azure.sent("PUT", "/codes/azft-code-")] == [None, None, 201]


def test_storage_without_keys_works_by_identity(azure: Azure, shop: Toy, plan: Plan) -> None:
    azure.fault("storage-keys-disabled", times=-1)
    bring(azure, shop, plan)
    assert all(entry["status"] == 201 for entry in azure.sent("PUT", "/codes/"))


def test_data_that_changed_meanwhile_is_refused(azure: Azure, shop: Toy, plan: Plan) -> None:
    for name in ("train.jsonl", "validation.jsonl"):
        (shop.folder / name).write_text("{}\n")
    with pytest.raises(StalePlanError, match="changed while the plan was carried out"):
        bring(azure, shop, plan)
    assert azure.sent("PUT", "/data/azft-data-") == []


def test_is_there_tells_without_sending(azure: Azure, shop: Toy, plan: Plan) -> None:
    connection: Connection = azure.connect()
    some = [plan.target.upload(kind) for kind in ("data", "parameters", "code", "environment")]  # type: ignore[union-attr]
    assert not any(uploads.is_there(connection, upload) for upload in some if upload)
    bring(azure, shop, plan)
    assert all(uploads.is_there(connection, upload) for upload in some if upload)


def test_a_file_beyond_one_block_arrives_whole(azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.storage.blob import ContainerClient

    original = ContainerClient.__init__

    def small(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, max_single_put_size=1 << 16, max_block_size=1 << 15, **options)

    monkeypatch.setattr(ContainerClient, "__init__", small)
    content = bytes(range(256)) * 1024
    file = tmp_path / "large.bin"
    file.write_bytes(content)
    storage = Storage(azure.connect())
    assert storage.put("x/large.bin", file, sha256_bytes(content))
    assert len(azure.sent("PUT", "x/large.bin")) == 9  # eight blocks, and the list that makes them a blob
    assert storage.put("x/large.bin", file, sha256_bytes(content)) is False
    found = storage.read("x/large.bin", 1000)
    assert found is not None
    assert found.data == content[1000:]


def test_reading_behind_the_end_is_no_error(azure: Azure) -> None:
    storage = azure.connect().storage
    storage.put("x/log.txt", b"abc", sha256_bytes(b"abc"))
    piece = storage.read("x/log.txt", 3)
    assert piece is not None
    assert (piece.data, piece.total) == (b"", 3)
    assert storage.read("x/none.txt") is None


def test_addresses_are_understood_both_ways(azure: Azure) -> None:
    storage = azure.connect().storage
    assert storage.path_of(storage.uri("azft/x")) == "azft/x"
    assert storage.path_of(storage.url("azft/x")) == "azft/x"
    assert storage.path_of("azureml://datastores/workspaceblobstore/paths/azft/x") == "azft/x"
    assert storage.path_of("azureml://datastores/other/paths/azft/x") is None
