"""The jobs of a workspace as the SDK sees them: names, what may change, lists, states by the clock."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from azft.emulator import Emulator, Settings, identity, jobs
from azft.emulator.workspace import resource_id
from tests.helpers import azure_sdk
from tests.helpers.azure_sdk import ml_client, sent

FINE_TUNING: dict[str, Any] = {
    "jobType": "FineTuning",
    "displayName": "tune",
    "experimentName": "tunes",
    "tags": {"azft.plan": "abc"},
    "properties": {"azft.plan": "abc"},
    "fineTuningDetails": {
        "taskType": "chatCompletion",
        "modelProvider": "Custom",
        "model": {"uri": "azureml://registries/azureml/models/Phi/versions/1", "jobInputType": "mlflow_model"},
        "trainingData": {"uri": "azureml:rows:1", "jobInputType": "uri_file"},
        "validationData": None,
        "hyperParameters": {"num_train_epochs": "1"},
    },
    "outputs": {"registered_model": {"assetName": "tuned", "jobOutputType": "mlflow_model"}},
}


class Wire:
    """The control plane without an SDK, for what the SDK never sends."""

    def __init__(self, emu: Emulator) -> None:
        self.emu = emu
        token, _ = identity.issue(emu.secret, "https://management.azure.com", 3600)
        self.headers = {"Authorization": f"Bearer {token}"}

    def put(self, name: str, **changes: Any) -> requests.Response:
        return self.ask("PUT", f"jobs/{name}", json={"properties": {**FINE_TUNING, **changes}})

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        url = f"{self.emu.url}{resource_id(self.emu)}/{path}?api-version=2024-10-01-preview"
        return requests.request(method, url, headers=self.headers, timeout=30, **options)

    def status(self, name: str) -> str:
        return str(self.ask("GET", f"jobs/{name}").json()["properties"]["status"])


@pytest.fixture
def wire(core: Emulator) -> Wire:
    core.clock.manual = True
    core.settings = core.settings.changed({"queue_seconds": 10, "prepare_seconds": 20, "run_seconds": 60})
    return Wire(core)


def codes(answer: requests.Response) -> list[str]:
    """The error's code and its inner ones."""
    error = answer.json()["error"]
    found = [error["code"]]
    inner = next((i["info"]["value"] for i in error["additionalInfo"] if i["type"] == "InnerError"), None)
    while inner:
        found.append(inner["code"])
        inner = inner["innerError"]
    return found


def test_a_name_is_created_once_and_updated_then(wire: Wire) -> None:
    assert wire.put("one").status_code == 201
    assert wire.put("one").status_code == 200
    changed = wire.put("one", tags={"azft.plan": "abc", "more": "1"}, displayName="better", description="words")
    assert changed.status_code == 200
    found = wire.ask("GET", "jobs/one").json()["properties"]
    assert (found["displayName"], found["description"], found["tags"]["more"]) == ("better", "words", "1")
    assert len(sent(wire.emu, "/jobs/one")) == 4


def test_of_many_at_once_one_creates_the_job(wire: Wire) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = sorted(answer.status_code for answer in pool.map(lambda _: wire.put("one"), range(16)))
    assert answers == [200] * 15 + [201]


@pytest.mark.parametrize(
    "changes",
    [
        {"experimentName": "another"},
        {"fineTuningDetails": {**FINE_TUNING["fineTuningDetails"], "hyperParameters": {"num_train_epochs": "2"}}},
        {"outputs": {"registered_model": {"assetName": "another", "jobOutputType": "mlflow_model"}}},
        {"properties": {"azft.plan": "another"}},
    ],
)
def test_the_same_name_with_another_body_is_refused(wire: Wire, changes: dict[str, Any]) -> None:
    wire.put("one")
    refused = wire.put("one", **changes)
    assert refused.status_code == 400
    assert codes(refused) == ["UserError", "Immutable", "JobPropertyImmutable"]
    assert "A job with this name already exists" in refused.json()["error"]["message"]


def test_the_model_that_a_job_made_does_not_make_its_body_another(wire: Wire) -> None:
    wire.put("one")
    wire.emu.clock.advance(100)
    assert wire.status("one") == "Completed"
    assert wire.put("one").status_code == 200
    assert wire.ask("GET", "jobs/one").json()["properties"]["outputs"]["registered_model"]["assetVersion"] == "1"


def test_an_honest_retry_is_refused_when_the_service_keeps_another_form(wire: Wire) -> None:
    wire.put("one")
    wire.emu.faults.add("body-normalised", times=-1)
    assert codes(wire.put("one")) == ["UserError", "Immutable", "JobPropertyImmutable"]
    assert wire.put("two").status_code == 201


def test_states_are_the_clocks(wire: Wire) -> None:
    wire.put("one")
    seen = []
    for seconds in (0, 10, 20, 59, 1):
        wire.emu.clock.advance(seconds)
        seen.append(wire.status("one"))
    assert seen == ["Queued", "Preparing", "Running", "Running", "Completed"]
    models = wire.ask("GET", "models/tuned/versions/1").json()["properties"]
    assert models["jobName"] == "one"
    assert models["tags"] == {"azft.plan": "abc"}


def test_a_state_is_the_same_however_late_one_looks(wire: Wire) -> None:
    wire.emu.faults.add("node-preempted")
    wire.put("one")
    wire.put("two")
    wire.emu.clock.advance(65)  # 10 queued, 20 preparing, 30 running, and queued again
    assert (wire.status("one"), wire.status("two")) == ("Queued", "Running")
    wire.emu.clock.advance(1000)
    assert (wire.status("one"), wire.status("two")) == ("Completed", "Completed")
    times = [wire.ask("GET", f"jobs/{name}").json()["systemData"]["createdAt"] for name in ("one", "two")]
    assert times[0] == times[1]


@pytest.mark.parametrize("fault", ["quota-exhausted", "image-build-failed"])
def test_a_mishap_fails_the_job(wire: Wire, fault: str) -> None:
    wire.emu.faults.add(fault)
    wire.put("one")
    wire.emu.clock.advance(100)
    assert wire.status("one") == "Failed"


def test_a_canceled_job_stays_canceled(wire: Wire) -> None:
    wire.put("one")
    wire.emu.clock.advance(40)
    accepted = wire.ask("POST", "jobs/one/cancel")
    assert accepted.status_code == 202
    assert int(accepted.headers["Retry-After"]) > 0
    assert requests.get(accepted.headers["Location"], headers=wire.headers, timeout=30).status_code == 200
    assert wire.status("one") == "Canceled"
    assert wire.ask("POST", "jobs/one/cancel").status_code == 200  # there is nothing to wait for
    wire.emu.clock.advance(1000)
    assert wire.status("one") == "Canceled"
    assert wire.ask("GET", "models/tuned/versions/1").status_code == 404


def test_a_job_that_has_ended_can_be_deleted(wire: Wire) -> None:
    wire.put("one")
    assert wire.ask("DELETE", "jobs/one").status_code == 409
    wire.emu.clock.advance(100)
    assert wire.ask("DELETE", "jobs/one").status_code == 200
    assert wire.ask("GET", "jobs/one").status_code == 404
    assert wire.ask("DELETE", "jobs/one").status_code == 204


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"computeId": "/x/computes/nowhere"}, "Unknown compute target 'nowhere'"),
        ({"resources": {"instanceTypes": ["Standard_Potato"]}}, "Standard_Potato"),
        ({"fineTuningDetails": {"taskType": "chatCompletion"}}, "fineTuningDetails.model"),
    ],
)
def test_what_the_service_refuses_at_once_makes_no_job(wire: Wire, changes: dict[str, Any], words: str) -> None:
    refused = wire.put("one", **changes)
    assert refused.status_code == 400
    assert words in refused.json()["error"]["message"]
    assert wire.ask("GET", "jobs/one").status_code == 404


def test_a_region_can_refuse_the_model(wire: Wire) -> None:
    wire.emu.faults.add("region-refuses-model")
    refused = wire.put("one")
    assert "is not supported for fine-tuning in the region eastus2" in refused.json()["error"]["message"]
    assert wire.put("one").status_code == 201


def test_what_was_created_may_not_be_seen_at_once(wire: Wire) -> None:
    wire.emu.faults.add("not-visible-yet", method="PUT", path="/jobs/")
    assert wire.put("one").status_code == 201
    assert wire.ask("GET", "jobs/one").status_code == 404
    assert wire.ask("GET", "jobs").json()["value"] == []
    assert wire.put("one").status_code == 200  # it is there
    wire.emu.clock.advance(5)
    assert wire.ask("GET", "jobs/one").status_code == 200


def test_the_list_is_paged_newest_first_and_filtered_by_tag(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PAGE", 3)
    for number in range(8):
        wire.put(f"job-{number}", tags={"azft.run": f"run-{number}"})
    found = list(ml_client(wire.emu).jobs.list())
    assert [job.name for job in found] == [f"job-{number}" for number in reversed(range(8))]
    assert len(sent(wire.emu, "/jobs")) == 8 + 3
    tagged = requests.get(
        f"{wire.emu.url}{resource_id(wire.emu)}/jobs",
        params={"tag": "azft.run=run-7", "listViewType": "All"},
        headers=wire.headers,
        timeout=30,
    ).json()
    assert [entry["name"] for entry in tagged["value"]] == ["job-7"]


def test_the_sdk_reads_a_fine_tuning_job_back(wire: Wire) -> None:
    wire.put("one")
    wire.emu.clock.advance(100)
    job = ml_client(wire.emu).jobs.get("one")
    assert (job.status, job.task, job.hyperparameters) == ("Completed", "chatCompletion", {"num_train_epochs": "1"})
    assert job.outputs["registered_model"].name == "tuned"
    with pytest.raises(ResourceNotFoundError):
        ml_client(wire.emu).jobs.get("two")


def test_jobs_survive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for expected in ("Queued", "Running"):
        emulator = Emulator(tmp_path, settings=Settings(executor="none", run_seconds=60, queue_seconds=10))
        emulator.clock.manual = True
        with emulator.in_process():
            azure_sdk.lead(emulator, monkeypatch)
            wire = Wire(emulator)
            assert wire.put("one").status_code == (201 if expected == "Queued" else 200)
            assert wire.status("one") == expected
            emulator.clock.advance(15)
        emulator.stop()


def test_an_error_is_one_that_the_sdk_reads(wire: Wire) -> None:
    client = ml_client(wire.emu)
    wire.put("one")
    with pytest.raises(HttpResponseError) as caught:
        client.jobs._operation_2023_02_preview.create_or_update(
            id="one",
            resource_group_name=wire.emu.settings.resource_group,
            workspace_name=wire.emu.settings.workspace,
            body=json.dumps({"properties": {**FINE_TUNING, "experimentName": "x"}}).encode(),
        )
    assert caught.value.error.code == "UserError"
