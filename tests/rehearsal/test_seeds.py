"""What a rehearsal puts into the emulator before a plan gets there, as Azure's own SDK then sees it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import azft
from azft.azure_plan import make_azure_plan
from azft.azureml.connection import connect
from azft.catalog.system_pipelines import SystemPipeline, system_pipelines
from azft.plan import Plan
from azft.recipe_file import load_recipe
from azft.rehearsal import seeds
from azft.rehearsal.hyperparameters import read_hyperparameters
from azft.rehearsal.session import Rehearsal, rehearsal


def make_plan(folder: Path, *overrides: str, mode: str = "maap") -> Plan:
    recipe = azft.init(folder / "bakery", force=True).recipe
    return make_azure_plan(load_recipe(recipe, overrides=overrides), mode)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Rehearsal]:
    with rehearsal(home=tmp_path / "stage") as started:
        yield started


def test_a_plan_gets_its_model_its_pipeline_and_its_cluster_once(tmp_path: Path, stage: Rehearsal) -> None:
    plan = make_plan(tmp_path, "modes.maap.compute=gpu-cluster", "modes.maap.pipeline=system")
    made = stage.ready(plan)
    assert [line.split()[:3] for line in made] == [
        ["a", "stand-in", "of"],
        ["chat_completion_pipeline", "in", "the"],
        ["the", "cluster", "gpu-cluster"],
    ]
    assert stage.ready(plan) == []


def test_only_what_the_plan_needs_is_made(tmp_path: Path, stage: Rehearsal) -> None:
    plan = make_plan(tmp_path, mode="maas")
    assert len(stage.ready(plan)) == 1
    assert [compute.name for compute in connect().client.compute.list()] == []


def test_the_model_is_what_the_registry_would_give(tmp_path: Path, stage: Rehearsal) -> None:
    stage.ready(make_plan(tmp_path, mode="maas"))
    model = connect().registry("azureml").models.get("Phi-4-mini-instruct", label="latest")
    assert model.type == "mlflow_model"
    assert "Standard_NC24ads_A100_v4" in ast.literal_eval(model.tags["finetune_compute_allow_list"])
    assert ast.literal_eval(model.tags["model_specific_defaults"])["apply_lora"] == "true"
    files = {path.relative_to(stage.home).name for path in stage.home.rglob("mlflow_model_folder/**/*")}
    assert {"MLmodel", "config.json", "model.safetensors", "tokenizer.json"} <= files


def test_a_model_that_is_asked_for_by_version_has_that_version(tmp_path: Path, stage: Rehearsal) -> None:
    model = "azureml://registries/azureml-meta/models/Llama-3.1-8B-Instruct/versions/7"
    stage.ready(make_plan(tmp_path, f"model={model}", mode="maas"))
    assert connect().registry("azureml-meta").models.get("Llama-3.1-8B-Instruct", version="7").version == "7"


def test_the_cluster_is_of_the_size_and_priority_that_the_recipe_says(tmp_path: Path, stage: Rehearsal) -> None:
    given = ("modes.maap.compute=spot", "modes.maap.tier=low-priority", "modes.maap.nodes=2")
    stage.ready(make_plan(tmp_path, *given))
    cluster = connect().client.compute.get("spot")
    assert cluster.size == "Standard_NC24ads_A100_v4"
    assert cluster.tier.lower().replace("_", "") == "lowpriority"
    assert cluster.max_instances == 2


@pytest.mark.parametrize("pipeline", system_pipelines().values(), ids=lambda row: row.name)
def test_each_pipeline_has_the_real_ones_inputs_and_tells_the_trainer_only_what_it_takes(
    pipeline: SystemPipeline,
) -> None:
    spec = seeds.component_spec(pipeline)
    assert set(spec["inputs"]) == set(pipeline.inputs)
    assert set(spec["outputs"]) == {"pytorch_model_folder", "mlflow_model_folder"}
    told = re.findall(r"--set (\w+)=", spec["command"])
    assert {"learning_rate", "num_train_epochs", "lora_r", "precision"} <= set(told)
    values = {name: str(pipeline.inputs[name].default) for name in told if pipeline.inputs[name].default is not None}
    read_hyperparameters(values, task="chat-completion", has_validation=True)


def test_the_sdk_reads_a_seeded_pipeline_back(tmp_path: Path, stage: Rehearsal) -> None:
    stage.ready(
        make_plan(tmp_path, "modes.maap.pipeline=system", "modes.maap.instance_types=[Standard_NC24ads_A100_v4]")
    )
    component = connect().registry("azureml").components.get("chat_completion_pipeline", label="latest")
    assert component.inputs["learning_rate"]["default"] == 2e-05
    assert component.inputs["train_file_path"]["optional"]
