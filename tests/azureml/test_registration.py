"""A run's model becomes one version in the workspace: found where the service registered it, made once otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from azft.azureml.errors import ConflictError
from azft.azureml.registration import register
from azft.errors import JobFailedError, NotFoundError, UsageError
from azft.runs import RunState
from azft.tags import TAG
from tests.helpers.azure_runs import Azure, emulated


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with emulated(tmp_path, monkeypatch) as found:
        yield found


def versions(azure: Azure, name: str = "linden") -> list[str]:
    return [model.name for model in azure.resources.all("model", name)]


@pytest.mark.parametrize("service", ["serverless-finetuning", "finetuning-job"])
def test_the_services_own_model_is_found_and_not_registered_again(azure: Azure, service: str) -> None:
    run = azure.completed(service)
    model = register(azure.connection, run)
    assert (model.reference, model.type, model.created, model.registered_by) == (
        "linden:1", "mlflow_model", False, "the service",
    )  # fmt: skip
    assert model.asset.startswith("azureml://locations/eastus2/workspaces/")
    assert model.asset.endswith("/models/linden/versions/1")
    assert azure.requests("PUT", "/models/") == 0


def test_the_services_model_is_the_jobs_and_not_just_the_newest(azure: Azure) -> None:
    first = azure.completed("serverless-finetuning", "linden-0000aaaa")
    second = azure.completed("serverless-finetuning", "linden-0000bbbb")
    assert register(azure.connection, second).version == "2"
    assert register(azure.connection, first).version == "1"


@pytest.mark.parametrize(("service", "kind"), [("pipeline", "custom_model"), ("system-pipeline", "mlflow_model")])
def test_a_pipelines_output_is_registered_under_the_runs_name_and_once(azure: Azure, service: str, kind: str) -> None:
    run = azure.completed(service)
    made = register(azure.connection, run)
    assert (made.reference, made.type, made.created) == ("linden:0123abcd", kind, True)
    again = register(azure.connection, run)
    assert (again.reference, again.created) == (made.reference, False)
    assert versions(azure) == ["0123abcd"]
    found = azure.resources.get("model", "linden", "0123abcd")
    assert found is not None
    assert found.tags[TAG] == run.plan["hash"]
    assert found.tags["azft.run"] == run.name
    assert "linden-0123abcd" in found.properties["modelUri"]


def test_a_second_run_of_the_same_plan_is_a_second_version(azure: Azure) -> None:
    one = register(azure.connection, azure.completed("pipeline", "linden-0123abcd"))
    two = register(azure.connection, azure.completed("pipeline", "linden-0123abcd-2"))
    assert (one.version, two.version) == ("0123abcd", "0123abcd-2")


def test_a_local_runs_folder_is_uploaded_once(azure: Azure) -> None:
    run = azure.local()
    made = register(azure.connection, run)
    assert (made.reference, made.type, made.created) == ("linden:0123abcd", "custom_model", True)
    found = azure.resources.get("model", "linden", "0123abcd")
    assert found is not None
    path = azure.connection.storage.path_of(found.properties["modelUri"])
    assert path is not None
    names = {blob.name.removeprefix(path) for blob in azure.connection.storage.list(path)}
    assert names == {"config.json", "model.safetensors", "MLmodel"}
    sent = sum(entry["sent"] for entry in azure.emu.log.list())
    register(azure.connection, run)
    assert sum(entry["sent"] for entry in azure.emu.log.list()) == sent, "nothing more was sent"


def test_another_name_is_another_model(azure: Azure) -> None:
    made = register(azure.connection, azure.local(), name="bakery")
    assert made.reference == "bakery:0123abcd"
    with pytest.raises(UsageError, match="no name for a model"):
        register(azure.connection, azure.local("linden-0000cccc"), name="a b")


@pytest.mark.parametrize("fault", ["answer-lost", "connection-reset", "throttled", "server-error", "not-visible-yet"])
def test_an_unclear_answer_leads_to_one_version(azure: Azure, fault: str) -> None:
    run = azure.completed("pipeline")
    azure.emu.faults.add(fault, method="PUT", path="/models/")
    assert register(azure.connection, run).reference == "linden:0123abcd"
    azure.emu.clock.advance(60)  # whatever was made is seen by then
    assert register(azure.connection, run).reference == "linden:0123abcd"
    assert versions(azure) == ["0123abcd"]


def test_a_name_that_another_plan_has_is_refused(azure: Azure) -> None:
    run = azure.completed("pipeline")
    other = azure.local("linden-9999abcd")
    register(azure.connection, other)
    found = azure.resources.get("model", "linden", "9999abcd")
    assert found is not None
    body = {"properties": {"modelUri": found.properties["modelUri"], "modelType": "custom_model"}}
    azure.resources.put("model", "linden", "0123abcd", body=body)
    with pytest.raises(ConflictError, match="this run did not make it"):
        register(azure.connection, run)


def test_a_run_without_a_model_says_so(azure: Azure) -> None:
    running = azure.running("pipeline", "linden-0000aaaa")
    with pytest.raises(JobFailedError, match="not done"):
        register(azure.connection, running)
    failed = azure.running("pipeline", "linden-0000bbbb")
    failed.set_state(RunState.FAILED)
    with pytest.raises(JobFailedError, match="ended as Failed"):
        register(azure.connection, failed)
    empty = azure.local("linden-0000cccc")
    for file in (empty.folder / "outputs" / "packaged").iterdir():
        file.unlink()
    with pytest.raises(NotFoundError, match="no packaged model"):
        register(azure.connection, empty)


def test_a_run_of_another_workspace_is_not_looked_for_here(azure: Azure) -> None:
    run = azure.completed("pipeline")
    azure.emu.state.delete("job", run.name)
    with pytest.raises(NotFoundError, match="is not in the workspace"):
        register(azure.connection, run)
