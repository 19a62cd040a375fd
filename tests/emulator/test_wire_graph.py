"""The wire form of a pipeline becomes a graph; the payload is the one that the SDK sends for azft's own pipeline."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from azft.emulator.wire_graph import read_wire
from azft.execution.graph import GraphError, GraphInput, LocalPath, StepOutput, Value, ordered
from azft.execution.inputs import check_graph

PAYLOAD = Path(__file__).parents[1] / "assets" / "pipeline_payload.yaml"


class Shelf:
    """Assets for the reader: the payload's own components by name, and files that exist."""

    def __init__(self, folder: Path, components: Mapping[str, Any]) -> None:
        self.folder = folder
        self.components = components
        self.asked: list[tuple[str, str]] = []

    def component(self, reference: str) -> Mapping[str, Any]:
        if reference not in self.components:
            raise GraphError(f"There is no component {reference}.")
        found: Mapping[str, Any] = self.components[reference]
        return found

    def code(self, reference: str) -> Path:
        return self.folder / "code"

    def data(self, reference: str, kind: str) -> Path:
        self.asked.append((reference, kind))
        path = self.folder / "data" / reference.rsplit("/", 1)[-1]
        path.parent.mkdir(exist_ok=True)
        path.touch()
        return path


@pytest.fixture
def job() -> dict[str, Any]:
    """The payload as it is after the SDK has replaced each component by its id."""
    loaded: dict[str, Any] = yaml.safe_load(PAYLOAD.read_text())
    for name, node in loaded["jobs"].items():
        node["componentId"] = f"azureml:/components/{name}/versions/1"
    return loaded


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    nodes = yaml.safe_load(PAYLOAD.read_text())["jobs"]
    return Shelf(
        tmp_path, {f"azureml:/components/{name}/versions/1": node["componentId"] for name, node in nodes.items()}
    )


def test_azfts_own_payload_is_a_sound_graph(job: dict[str, Any], shelf: Shelf) -> None:
    pipeline = read_wire(job, shelf)
    graph = pipeline.graph
    assert check_graph(graph) == []
    assert [step.name for step in ordered(graph)] == ["prepare", "finetune", "evaluate", "package"]
    assert graph.outputs["packaged"] == StepOutput("package", "packaged")
    finetune = graph.steps["finetune"]
    assert finetune.bindings["dataset"] == StepOutput("prepare", "dataset")
    assert finetune.bindings["model"] == GraphInput("model")
    assert finetune.variables == {"PYTHONPATH": "azft.zip"}
    assert finetune.processes == 2
    assert finetune.inputs["epochs"].minimum == 0
    assert isinstance(graph.inputs["train"], LocalPath)
    assert ("FOLDER/model", "uri_folder") in shelf.asked
    assert not pipeline.force_rerun
    assert pipeline.steps["finetune"].compute == "serverless"
    assert pipeline.steps["finetune"].deterministic


def test_values_types_and_destinations_are_read_as_the_wire_spells_them(job: dict[str, Any], shelf: Shelf) -> None:
    node = job["jobs"]["finetune"]
    node["inputs"]["epochs"] = {"job_input_type": "literal", "value": "2.5"}
    node["inputs"]["model"] = {
        "job_input_type": "mlflow_model",
        "uri": "azureml://registries/azureml/models/Phi/versions/1",
    }
    node["inputs"]["seed"] = None
    node["resources"] = {"instance_count": 3, "instance_type": "Standard_NC24ads_A100_v4"}
    job["outputs"]["checkpoints"]["uri"] = "azureml://datastores/workspaceblobstore/paths/azft/runs/a/checkpoints"
    job["settings"]["force_rerun"] = True
    pipeline = read_wire(job, shelf)
    step, facts = pipeline.graph.steps["finetune"], pipeline.steps["finetune"]
    assert step.bindings["epochs"] == Value("2.5")
    assert "seed" not in step.bindings
    assert ("azureml://registries/azureml/models/Phi/versions/1", "mlflow_model") in shelf.asked
    assert (step.processes, facts.nodes, facts.instance_type) == (6, 3, "Standard_NC24ads_A100_v4")
    assert facts.destinations == {
        "checkpoints": "azureml://datastores/workspaceblobstore/paths/azft/runs/a/checkpoints"
    }
    assert pipeline.force_rerun
    assert check_graph(pipeline.graph) == []


def test_camel_case_nodes_are_the_same_nodes(job: dict[str, Any], shelf: Shelf) -> None:
    before = read_wire(job, shelf)
    for node in job["jobs"].values():
        node["environmentVariables"] = node.pop("environment_variables")
        if "distribution" in node:
            node["distribution"] = {"distributionType": "PyTorch", "processCountPerInstance": 2}
        node["inputs"] = {
            key: {"jobInputType": v["job_input_type"], "value": v["value"]} for key, v in node["inputs"].items()
        }
    assert read_wire(job, shelf) == before


def test_a_registrys_pipeline_is_run_when_what_stands_for_it_is_a_command(job: dict[str, Any], shelf: Shelf) -> None:
    before = read_wire(job, shelf)
    job["jobs"]["finetune"]["type"] = "pipeline"
    assert read_wire(job, shelf) == before


def nest(job: dict[str, Any], shelf: Shelf) -> dict[str, Any]:
    """Move finetune and evaluate into a pipeline component, which becomes the node `tune`; its specification."""
    given = {
        "dataset": "${{parent.jobs.prepare.outputs.dataset}}",
        "model": "${{parent.inputs.model}}",
        "finetune_parameters": "${{parent.inputs.finetune_parameters}}",
        "evaluate_parameters": "${{parent.inputs.evaluate_parameters}}",
    }
    inner = {name: job["jobs"].pop(name) for name in ("finetune", "evaluate")}
    for node in inner.values():
        node["inputs"]["dataset"]["value"] = "${{parent.inputs.dataset}}"
    written = ("checkpoints", "metrics", "trained", "evaluation")
    spec = {
        "type": "pipeline",
        "inputs": {name: {"type": "uri_file" if "parameters" in name else "uri_folder"} for name in given},
        "outputs": {name: {"type": "uri_folder"} for name in written},
        "jobs": inner,
    }
    job["jobs"]["tune"] = {
        "type": "pipeline",
        "componentId": "azureml:/components/tune/versions/1",
        "inputs": {name: {"job_input_type": "literal", "value": value} for name, value in given.items()},
        "outputs": {name: {"type": "literal", "value": f"${{{{parent.outputs.{name}}}}}"} for name in written},
    }
    for name in ("evaluation", "trained"):
        job["jobs"]["package"]["inputs"][name]["value"] = f"${{{{parent.jobs.tune.outputs.{name}}}}}"
    shelf.components = {**shelf.components, "azureml:/components/tune/versions/1": spec}
    return spec


def test_a_pipeline_within_the_pipeline_is_the_same_steps_joined_the_same_way(
    job: dict[str, Any], shelf: Shelf
) -> None:
    place = "azureml://datastores/workspaceblobstore/paths/azft/runs/a/checkpoints"
    job["outputs"]["checkpoints"]["uri"] = place
    before = read_wire(job, shelf)
    nest(job, shelf)
    after = read_wire(job, shelf)
    assert check_graph(after.graph) == []
    assert [step.name for step in ordered(after.graph)] == ["prepare", "tune/finetune", "tune/evaluate", "package"]
    renamed = {"finetune": "tune/finetune", "evaluate": "tune/evaluate"}
    for name, step in before.graph.steps.items():
        found = after.graph.steps[renamed.get(name, name)]
        for key, bound in step.bindings.items():
            source = bound.step if isinstance(bound, StepOutput) else ""
            wanted = StepOutput(renamed.get(source, source), bound.output) if isinstance(bound, StepOutput) else bound
            assert found.bindings[key] == wanted
        assert (found.command, found.outputs, found.variables) == (step.command, step.outputs, step.variables)
    assert after.graph.outputs["trained"] == StepOutput("tune/finetune", "trained")
    assert after.steps["tune/finetune"].destinations == {"checkpoints": place}


def test_an_inner_pipelines_defaults_and_absent_inputs_reach_its_steps(job: dict[str, Any], shelf: Shelf) -> None:
    spec = nest(job, shelf)
    spec["inputs"] |= {"epochs": {"type": "number", "default": "2.5"}, "seed": {"type": "integer", "optional": True}}
    spec["jobs"]["finetune"]["inputs"] |= {"epochs": "${{parent.inputs.epochs}}", "seed": "${{parent.inputs.seed}}"}
    bindings = read_wire(job, shelf).graph.steps["tune/finetune"].bindings
    assert bindings["epochs"] == Value("2.5")
    assert "seed" not in bindings
    del spec["inputs"]["seed"]
    with pytest.raises(GraphError, match="its pipeline's `seed`"):
        read_wire(job, shelf)


def test_pipelines_may_lie_two_deep(job: dict[str, Any], shelf: Shelf) -> None:
    spec = nest(job, shelf)
    deep = {
        **job["jobs"]["tune"],
        "inputs": {name: f"${{{{parent.inputs.{name}}}}}" for name in spec["inputs"]},
    }
    job["jobs"]["tune"]["componentId"] = "azureml:/components/around/versions/1"
    around = {**spec, "jobs": {"deep": deep}}
    shelf.components = {**shelf.components, "azureml:/components/around/versions/1": around}
    graph = read_wire(job, shelf).graph
    assert check_graph(graph) == []
    assert graph.steps["package"].bindings["trained"] == StepOutput("tune/deep/finetune", "trained")
    assert graph.steps["tune/deep/finetune"].bindings["dataset"] == StepOutput("prepare", "dataset")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda node: node.update(type="sweep"), "is of type sweep"),
        (lambda node: node.update(componentId=None), "names no component"),
        (lambda node: node.update(componentId="azureml:/elsewhere"), "There is no component"),
        (lambda node: node["inputs"]["model"].update(value="${{parent.nothing}}"), "means nothing"),
        (
            lambda node: node.update(distribution={"distribution_type": "Mpi", "process_count_per_instance": 2}),
            "by mpi",
        ),
    ],
)
def test_what_cant_be_run_is_said(job: dict[str, Any], shelf: Shelf, change: Any, words: str) -> None:
    changed = copy.deepcopy(job)
    change(changed["jobs"]["finetune"])
    with pytest.raises(GraphError, match=words):
        read_wire(changed, shelf)


def test_a_pipeline_without_nodes_is_refused(shelf: Shelf) -> None:
    with pytest.raises(GraphError, match="no nodes"):
        read_wire({"jobs": {}}, shelf)
