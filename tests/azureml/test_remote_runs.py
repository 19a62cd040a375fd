from __future__ import annotations

from pathlib import Path

import pytest

from azft import api
from azft.azureml.connection import Access
from azft.azureml.registration import version_of
from azft.azureml.remote_runs import adopt, find_remote, list_remote, workspace_of
from azft.azureml.resources import Resources
from azft.azureml.serving_choice import base_model_of, choose_name
from azft.errors import NotFoundError
from azft.modes.maap import MaapMode
from azft.modes.maas import MaasMode
from azft.runs import Run, RunState, RunStore
from tests.helpers.azure_shop import Azure, plan_in
from tests.helpers.toy import Toy

BODY = {
    "fineTuningDetails": {
        "taskType": "chatCompletion",
        "modelProvider": "Custom",
        "model": {
            "uri": "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1",
            "jobInputType": "mlflow_model",
        },
        "trainingData": {"uri": "azureml://datastores/workspaceblobstore/paths/x.jsonl", "jobInputType": "uri_file"},
        "hyperParameters": {},
    },
    "outputs": {"registered_model": {"assetName": "other", "jobOutputType": "mlflow_model"}},
}


@pytest.fixture
def started(azure: Azure, shop: Toy) -> Run:
    mode = MaasMode(shop.root)
    return mode.submit(plan_in(shop, mode, azure), wait=False)


def test_what_other_machines_started_is_listed(azure: Azure, shop: Toy, started: Run) -> None:
    pipeline = MaapMode(shop.root)
    second = pipeline.submit(plan_in(shop, pipeline, azure), wait=False)
    found = {run.name: run for run in list_remote(azure.connect())}
    assert found.keys() == {started.name, second.name}
    assert found[started.name].mode == "maas"
    assert found[second.name].mode == "maap"
    assert found[second.name].plan == second.plan["hash"]
    assert found[second.name].started_by


def test_jobs_of_others_are_not_listed(azure: Azure, started: Run) -> None:
    from azft.azureml import submission

    connection = azure.connect()
    body = {"properties": {"jobType": "FineTuning", "tags": {"team": "search"}, **BODY}}
    submission._put(connection, "another", body)
    assert [run.name for run in list_remote(connection)] == [started.name]


def test_a_run_of_another_machine_gets_a_record_here(azure: Azure, tmp_path: Path, started: Run) -> None:
    store = RunStore(tmp_path / "elsewhere" / ".azft")
    connection = azure.connect()
    job = find_remote(connection, started.name)
    assert job is not None
    run = adopt(store, connection, job)
    assert run.remote
    assert run.name == started.name
    assert run.plan["hash"] == started.plan["hash"]
    assert run.started() == started.started() == job.created
    assert workspace_of(run).same_as(connection.workspace)
    MaasMode(store.root).refresh(run)
    assert run.state is RunState.COMPLETED
    assert adopt(store, connection, job) == run


def test_all_jobs_of_a_run_are_known_so_that_the_next_has_a_name_of_its_own(
    azure: Azure, shop: Toy, tmp_path: Path
) -> None:
    azure.change({"run_seconds": 100})
    mode = MaapMode(shop.root)
    run = mode.submit(plan_in(shop, mode, azure), wait=False)
    mode.cancel(run)
    azure.time.sleep(60)
    mode.resume(run, wait=False)
    connection = azure.connect()
    for name in (run.name, f"{run.name}-r1"):
        job = find_remote(connection, name)
        assert job is not None
        assert job.name == f"{run.name}-r1"
    found = adopt(RunStore(tmp_path / "elsewhere" / ".azft"), connection, job)
    assert found.azure["jobs"] == [run.name, f"{run.name}-r1"]
    assert found.azure["job"] == f"{run.name}-r1"
    assert [entry.name for entry in list_remote(connection)] == [run.name]


def test_whoever_looks_from_another_machine_names_model_and_endpoint_alike(
    azure: Azure, shop: Toy, tmp_path: Path
) -> None:
    """Else a second `azft deploy` would be a second endpoint, which bills beside the first."""
    mode = MaapMode(shop.root)
    plan = plan_in(shop, mode, azure, "output.model_name=bakery")
    mode.submit(plan, wait=False)
    second = mode.submit(plan, wait=False, again=True)
    assert second.name.endswith("-2")
    connection = azure.connect()
    job = find_remote(connection, second.name)
    assert job is not None
    elsewhere = adopt(RunStore(tmp_path / "elsewhere" / ".azft"), connection, job)
    assert elsewhere.plan["name"] == second.plan["name"]
    assert elsewhere.plan["recipe"]["output"]["model_name"] == "bakery"
    assert version_of(elsewhere) == version_of(second)
    assert choose_name(connection, elsewhere, None) == choose_name(connection, second, None)


@pytest.mark.parametrize("pipeline", ["azft", "system"])
def test_a_run_of_another_machine_says_which_model_was_tuned(
    azure: Azure, shop: Toy, tmp_path: Path, pipeline: str
) -> None:
    """And not under which name the result is registered, which is in a tag of the job."""
    mode = MaapMode(shop.root)
    run = mode.submit(plan_in(shop, mode, azure, f"modes.maap.pipeline={pipeline}"), wait=False)
    connection = azure.connect()
    job = find_remote(connection, run.name)
    assert job is not None
    elsewhere = adopt(RunStore(tmp_path / "elsewhere" / ".azft"), connection, job)
    tuned = "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1"
    assert elsewhere.plan["model"]["description"] == tuned
    assert base_model_of(Resources(connection), elsewhere) == (tuned, False)


def test_the_api_finds_it_by_its_name(
    azure: Azure, tmp_path: Path, started: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZFT_HOME", str(tmp_path / "elsewhere" / ".azft"))
    with pytest.raises(NotFoundError):
        api.get_run(started.name)  # nobody said that Azure may be asked
    run = api.get_run(started.name, access=Access())
    assert api.refresh(run).state is RunState.COMPLETED
    assert api.summarize(run).azure == {
        "workspace": "azft-rehearsal",
        "job": started.name,
        "studio_url": run.azure["studio_url"],
        "refreshed": run.refreshed(),
    }
    with pytest.raises(
        NotFoundError, match=r"There is no run `nothing` in .+, and the workspace azft-rehearsal has none"
    ):
        api.get_run("nothing", access=Access())


def test_an_adopted_run_that_is_submitted_here_gets_its_plan(
    azure: Azure, shop: Toy, tmp_path: Path, started: Run
) -> None:
    here = MaasMode(tmp_path / "elsewhere" / ".azft")
    job = find_remote(azure.connect(), started.name)
    assert job is not None
    adopt(here.store, azure.connect(), job)
    plan = here.plan(shop.recipe("model=Phi-4-mini-instruct"))
    run = here.submit(plan, wait=False)
    assert run.plan["steps"] == []
    assert "adopted" not in run.plan
    assert azure.jobs() == [started.name]
