"""Bringing outputs here: resumed where it was cut, checked, and never half under its name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from azft.azureml import outputs
from azft.azureml.connection import Connection
from azft.azureml.errors import ServiceUnavailableError
from azft.azureml.patience import Patience
from azft.azureml.resources import Resources
from azft.azureml.run_outputs import find_output, kept_path, store_path
from azft.azureml.storage import Blob
from azft.errors import AzftError, NotFoundError
from azft.files import sha256_bytes
from azft.modes.maap import MaapMode
from azft.runs import Run
from tests.helpers.azure_shop import Azure, plan_in
from tests.helpers.toy import Toy

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def run(azure: Azure, shop: Toy) -> Run:
    mode = MaapMode(shop.root)
    return mode.submit(plan_in(shop, mode, azure), wait=False)


@pytest.fixture
def connection(azure: Azure, run: Run, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """A workspace where the run's packaged model lies in two files; pieces are small."""
    monkeypatch.setattr(outputs, "_PIECE", 30_000)
    made = azure.connect()
    for name, content in {"model.safetensors": CONTENT, "card/README.md": b"# card\n"}.items():
        made.storage.put(f"azureml/{run.name}/packaged/{name}", content, sha256_bytes(content))
    return made


def test_what_there_is_is_listed(connection: Connection, run: Run) -> None:
    found = {output.name: output for output in outputs.list_outputs(connection, run)}
    assert found["packaged"].path == f"azureml/{run.name}/packaged"
    assert (found["packaged"].files, found["packaged"].bytes) == (2, len(CONTENT) + 7)
    assert found["trained"].path is None


def test_it_is_brought_here_whole(connection: Connection, run: Run, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    places = outputs.download(connection, run, folder=tmp_path / "here", on_event=told.append)
    assert places == {"packaged": tmp_path / "here" / "packaged"}
    assert (places["packaged"] / "model.safetensors").read_bytes() == CONTENT
    assert (places["packaged"] / "card" / "README.md").read_text() == "# card\n"
    assert {event["file"] for event in told} == {"model.safetensors", "README.md"}
    assert sorted(p.name for p in places["packaged"].rglob("*") if p.is_file()) == ["README.md", "model.safetensors"]


def test_without_a_folder_it_goes_into_the_runs_own(connection: Connection, run: Run) -> None:
    outputs.download(connection, run, ["packaged"])
    assert (run.outputs()["packaged"] / "model.safetensors").read_bytes() == CONTENT


def test_a_cut_download_goes_on_where_it_was(
    azure: Azure, connection: Connection, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("azft.azureml.patience.default_patience", lambda: Patience(attempts=1))
    azure.fault("connection-reset", method="GET", path="model.safetensors", after=2, times=1)
    with pytest.raises(ServiceUnavailableError):
        outputs.download(connection, run, ["packaged"], folder=tmp_path)
    folder = tmp_path / "packaged"
    assert not (folder / "model.safetensors").exists()
    assert (folder / "model.safetensors.part").stat().st_size == 60_000
    azure.emu.log.clear()
    outputs.download(connection, run, ["packaged"], folder=tmp_path)
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert sum(entry["received"] for entry in azure.sent("GET", "model.safetensors")) == len(CONTENT) - 60_000
    assert not list(folder.rglob("*.part*"))


def test_what_is_here_already_is_not_fetched_again(
    azure: Azure, connection: Connection, run: Run, tmp_path: Path
) -> None:
    outputs.download(connection, run, ["packaged"], folder=tmp_path)
    azure.emu.log.clear()
    told: list[dict[str, Any]] = []
    outputs.download(connection, run, ["packaged"], folder=tmp_path, on_event=told.append)
    assert {event["event"] for event in told} == {"download-reused"}
    assert azure.sent("GET", "model.safetensors") == []


def test_a_file_that_changed_in_the_meantime_is_begun_anew(connection: Connection, run: Run, tmp_path: Path) -> None:
    part = tmp_path / "packaged" / "model.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"of another version")
    part.with_name("model.safetensors.part.json").write_text('{"etag": "old", "size": 5}')
    outputs.download(connection, run, ["packaged"], folder=tmp_path)
    assert (tmp_path / "packaged" / "model.safetensors").read_bytes() == CONTENT


def test_a_damaged_file_does_not_get_its_name(
    connection: Connection, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"azureml/{run.name}/packaged/model.safetensors"
    blob = connection.storage.look(path)
    assert blob is not None
    wrong = Blob(path, blob.size, blob.etag, md5=hashlib.md5(b"else", usedforsecurity=False).digest())
    with pytest.raises(AzftError, match="arrived damaged"):
        outputs._fetch(connection.storage, wrong, tmp_path / "m", run, "packaged", lambda _: None)
    assert list(tmp_path.glob("m*")) == []


def test_names_that_lead_out_of_the_folder_are_refused() -> None:
    with pytest.raises(AzftError, match="unsafe name"):
        outputs._below("azureml/run/packaged/../../etc/passwd", "azureml/run/packaged")


def test_an_output_without_files_is_named(connection: Connection, run: Run, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="`trained` of run"):
        outputs.download(connection, run, ["trained"], folder=tmp_path)


def test_places_are_found_by_the_jobs_own_word_first(connection: Connection, run: Run) -> None:
    job = Resources(connection).get("job", run.name)
    assert job is not None
    assert kept_path(job, "metrics", run.name) == f"azft/runs/{run.name}/metrics"
    assert find_output(connection, job, "packaged", run.name) == f"azureml/{run.name}/packaged"
    assert find_output(connection, job, "trained", run.name) is None
    assert store_path("azureml://datastores/workspaceblobstore/paths/a/b/") == "a/b"
    assert store_path("azureml://datastores/workspaceblobstore/paths/${{name}}/b") is None
    assert store_path("azureml://jobs/x/outputs/y") is None
