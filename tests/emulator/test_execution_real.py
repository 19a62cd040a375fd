"""The whole way with real training: a pipeline and a fine-tuning job, by the SDK, until an endpoint answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.ai.ml import Input, Output
from azure.ai.ml.entities import (
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    ServerlessEndpoint,
)
from azure.ai.ml.entities._job.finetuning.custom_model_finetuning_job import CustomModelFineTuningJob

import azft
from azft.catalog import materialize
from azft.emulator import Emulator, Settings, registry, run_metrics
from azft.emulator.workspace import workspace_guid
from azft.execution.ranks import own_module
from azft.pipeline import build_pipeline, write_parameters
from azft.recipe_file import load_recipe
from azft.staging import stage_code
from tests.helpers import azure_sdk

pytestmark = pytest.mark.slow
CHAT = {"messages": [{"role": "user", "content": "When do you open?"}], "max_tokens": 8}


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    settings = Settings(
        trainer_command=own_module("azft.rehearsal.trainer"),
        server_command=own_module("azft.rehearsal.server"),
    )
    with Emulator(tmp_path / "state", settings=settings) as emulator:
        azure_sdk.lead(emulator, monkeypatch)
        yield emulator


@pytest.fixture
def plan(tmp_path: Path) -> azft.Plan:
    azft.init(tmp_path / "demo")
    overrides = ("modes.local.weights=stand-in", "training.max_steps=6", "evaluation.samples=1")
    return azft.plan(load_recipe(tmp_path / "demo" / "recipe.yaml", overrides=overrides, environment={}))


def ended(client: Any, name: str) -> str:
    deadline = time.monotonic() + 240
    while (status := client.jobs.get(name).status.value) not in {"Completed", "Failed", "Canceled"}:
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    return str(status)


def chat(url: str, key: str) -> str:
    answer = requests.post(
        f"{url.rstrip('/')}/v1/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {key}"}, timeout=120
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def test_azfts_pipeline_from_submit_to_an_endpoint_that_answers(
    emulator: Emulator, plan: azft.Plan, tmp_path: Path
) -> None:
    client = azure_sdk.ml_client(emulator)
    write_parameters(plan, tmp_path / "parameters")
    job = build_pipeline(
        plan,
        code=stage_code(tmp_path / "code").folder,
        parameters=tmp_path / "parameters",
        model=materialize(plan.model),
    )
    client.jobs.create_or_update(job)
    emulator.faults.add("node-preempted", where={"step": "finetune"}, params={"step": 3})
    assert ended(client, plan.run_name) == "Completed"
    children = {child.display_name: child for child in client.jobs.list(parent_job_name=plan.run_name)}
    assert list(children) == ["prepare", "finetune", "evaluate", "package"]
    logged = {int(point["step"]) for point in run_metrics.history(emulator, children["finetune"].name, "loss")}
    assert logged == {1, 2, 3, 4, 5, 6}  # azft's own mirror, over TLS
    client.jobs.download(plan.run_name, output_name="metrics", download_path=tmp_path / "down")
    lines = (tmp_path / "down" / "named-outputs" / "metrics" / "metrics.jsonl").read_text().splitlines()
    assert [line["step"] for line in map(json.loads, lines) if "loss" in line] == [1, 2, 3, 4, 5, 6]
    path = f"azureml://jobs/{plan.run_name}/outputs/packaged"
    client.models.create_or_update(Model(name="bakery", version="1", path=path, type="custom_model"))
    routes = {kind: {"port": 8000, "path": "/health"} for kind in ("liveness_route", "readiness_route")}
    inference = {**routes, "scoring_route": {"port": 8000, "path": "/"}}
    environment = Environment(name="serve", version="1", image="example/vllm:1", inference_config=inference)
    client.environments.create_or_update(environment)
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="talk", auth_mode="key")).result()
    deployment = ManagedOnlineDeployment(
        name="blue",
        endpoint_name="talk",
        model="azureml:bakery:1",
        environment="azureml:serve:1",
        instance_type="Standard_NC24ads_A100_v4",
        instance_count=1,
    )
    client.online_deployments.begin_create_or_update(deployment).result()
    endpoint = client.online_endpoints.get("talk")
    endpoint.traffic = {"blue": 100}
    client.online_endpoints.begin_create_or_update(endpoint).result()
    assert chat(endpoint.scoring_uri, client.online_endpoints.get_keys("talk").primary_key)


def test_a_fine_tuning_job_until_its_model_answers_serverlessly(
    emulator: Emulator, plan: azft.Plan, tmp_path: Path
) -> None:
    client = azure_sdk.ml_client(emulator)
    registry.seed_model(emulator, "azureml", "Phi", "1", materialize(plan.model))
    values = {"num_train_epochs": "1", "per_device_train_batch_size": "16", "max_seq_length": "256", "max_steps": "4"}
    job = CustomModelFineTuningJob(
        name="tune",
        experiment_name="tunes",
        task="ChatCompletion",
        model=Input(type="mlflow_model", path="azureml://registries/azureml/models/Phi/versions/1"),
        training_data=Input(type="uri_file", path=str(tmp_path / "demo" / "train.jsonl")),
        validation_data=Input(type="uri_file", path=str(tmp_path / "demo" / "validation.jsonl")),
        hyperparameters=values,
        outputs={"registered_model": Output(type="mlflow_model", name="tuned")},
    )
    client.jobs.create_or_update(job)
    assert ended(client, "tune") == "Completed"
    assert run_metrics.history(emulator, "tune", "loss")
    model = f"azureml://locations/eastus2/workspaces/{workspace_guid(emulator)}/models/tuned/versions/1"
    made = client.serverless_endpoints.begin_create_or_update(ServerlessEndpoint(name="talk", model_id=model)).result()
    assert chat(made.scoring_uri, client.serverless_endpoints.get_keys("talk").primary_key)
