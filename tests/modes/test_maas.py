"""Mode maas over the emulator: one fine-tuning job, its metrics, and what can't be done with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from azft.azureml.errors import ServiceError
from azft.azureml.resources import Resources
from azft.errors import JobFailedError, UsageError
from azft.files import write_json
from azft.modes import get_mode
from azft.modes.maas import MaasMode
from azft.plan import Plan
from azft.runs import RunState
from tests.helpers.azure_shop import Azure, azure_in_process, make_shop, plan_in
from tests.helpers.toy import Toy


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    return make_shop(tmp_path / "shop", monkeypatch)


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with azure_in_process(tmp_path / "azure", monkeypatch) as made:
        yield made


@pytest.fixture
def mode(shop: Toy) -> MaasMode:
    return MaasMode(shop.root)


def test_the_row_of_the_table_is_this_class(shop: Toy) -> None:
    assert isinstance(get_mode("maas", root=shop.root), MaasMode)


def test_a_plan_becomes_one_serverless_job(azure: Azure, shop: Toy, mode: MaasMode) -> None:
    plan = plan_in(shop, mode, azure)
    run = mode.submit(plan, wait=False)
    job = Resources(azure.connect()).get("job", run.name)
    assert job is not None
    assert job.properties["jobType"] == "FineTuning"
    assert not job.properties.get("computeId")
    assert run.azure["service"] == "serverless-finetuning"
    azure.time.sleep(1)
    assert mode.status(run).state is RunState.COMPLETED


def test_the_metrics_come_from_the_workspaces_mlflow(azure: Azure, shop: Toy, mode: MaasMode) -> None:
    azure.change({"run_seconds": 100})
    run = mode.submit(plan_in(shop, mode, azure), wait=False)
    steps = azure.connect().client.jobs._runs_operations
    child = next(iter(steps._operation.get_child(*_scope(azure), run.name)), None)
    target = run.name if child is None else child.run_id
    log(azure, target, {"loss": 4.0, "learning_rate": 0.1}, step=1)
    log(azure, target, {"loss": 3.0}, step=2)
    mode.refresh(run)
    assert [(line["step"], line["loss"]) for line in run.metrics()[0]] == [(1, 4.0)]  # more of step 2 may come
    log(azure, target, {"learning_rate": 0.05}, step=2)
    log(azure, target, {"train_loss": 2.5, "eval_loss": 2.75}, step=3)
    azure.time.sleep(200)
    mode.refresh(run)
    found = run.metrics()[0]
    assert [line["step"] for line in found] == [1, 2, 3]
    assert found[1]["learning_rate"] == 0.05
    assert (found[2]["loss"], found[2]["eval_loss"]) == (2.5, 2.75)
    assert run.state is RunState.COMPLETED


def test_it_can_be_canceled_but_not_resumed(azure: Azure, shop: Toy, mode: MaasMode) -> None:
    azure.change({"run_seconds": 100})
    run = mode.submit(plan_in(shop, mode, azure), wait=False)
    azure.time.sleep(5)
    mode.cancel(run)
    azure.time.sleep(60)
    assert mode.status(run).state is RunState.CANCELED
    assert "azft resume" not in run.status().fix
    with pytest.raises(UsageError, match="leaves no checkpoint") as refused:
        mode.resume(run)
    assert run.another in refused.value.fix
    assert len(azure.jobs()) == 1


def test_a_failed_job_names_the_command_that_starts_the_same_plan_again(
    azure: Azure, shop: Toy, mode: MaasMode
) -> None:
    """It can't be resumed, and `azft submit recipe.yaml --again` would run it on this machine."""
    azure.fault("quota-exhausted", times=1)
    plan = plan_in(shop, mode, azure, "training.epochs=2")
    with pytest.raises(JobFailedError) as failed:
        mode.submit(plan)
    run = mode.store.get(plan.run_name)
    assert "azft resume" not in failed.value.fix
    assert run.another in failed.value.fix
    again = shlex.split(run.another)
    assert (again[:2], again[3:]) == (["azft", "submit"], ["--again"])
    assert Plan.from_json(Path(again[2]).read_bytes()) == plan


def test_a_job_that_was_deleted_names_it_too(azure: Azure, shop: Toy, mode: MaasMode) -> None:
    run = mode.submit(plan_in(shop, mode, azure), wait=False)
    azure.time.sleep(400)
    write_json(run.folder / "azure.json", {**run.azure, "job": "gone", "submitted_at": "2020-01-01T00:00:00+00:00"})
    status = mode.status(run)
    assert "Azure has no job gone any more" in status.message
    assert run.another in status.fix


def test_a_region_that_refuses_the_model_is_told_so_and_leaves_no_job(azure: Azure, shop: Toy, mode: MaasMode) -> None:
    azure.fault("region-refuses-model", times=1)
    plan = plan_in(shop, mode, azure)
    with pytest.raises(ServiceError, match="region does not offer this model") as error:
        mode.submit(plan, wait=False)
    assert "Azure's words (400" in error.value.fix
    run = mode.store.get(plan.run_name)
    assert run.state is RunState.FAILED
    assert azure.jobs() == []
    assert mode.submit(plan, wait=False) == run  # once it is offered, the same submit starts it
    assert azure.jobs() == [run.name]


def _scope(azure: Azure) -> tuple[str, str, str]:
    settings = azure.emu.settings
    return settings.subscription, settings.resource_group, settings.workspace


def log(azure: Azure, run: str, metrics: dict[str, float], step: int) -> None:
    """Log metrics as a node does: over the workspace's MLflow."""
    from azure.core.rest import HttpRequest

    connection = azure.connect()
    base = str(connection.details.ml_flow_tracking_uri).replace("azureml://", "https://")
    now = int(azure.emu.clock.now() * 1000)
    body = {
        "run_id": run,
        "metrics": [{"key": key, "value": value, "step": step, "timestamp": now} for key, value in metrics.items()],
    }
    response = connection.client._service_client_01_2024_preview_arm.send_request(
        HttpRequest("POST", f"{base}/api/2.0/mlflow/runs/log-batch", json=body)
    )
    response.raise_for_status()
