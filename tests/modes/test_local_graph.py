"""What runs here is the job that goes to Azure (invariant 1), and the SDK's private names that this relies on."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from azft.execution.graph import Graph, GraphError, GraphInput, LocalPath, StepOutput, Value
from azft.execution.inputs import check_graph
from azft.execution.placeholders import render
from azft.files import sha256_tree
from azft.modes.local import LocalMode
from azft.modes.local_graph import read_pipeline
from azft.pipeline import OUTPUTS, WIRING, build_pipeline, quiet_sdk, write_parameters
from azft.plan import Plan
from azft.staging import COMPONENTS, component_file, stage_code
from tests.helpers.toy import Toy

CHECKOUT = Path(__file__).parents[2]
GOLDEN_HEAD = """\
# What the SDK sends for the toy plan of tests/modes/test_local_graph.py, without paths and hashes.
# To renew it, run that test with RENEW_GOLDEN=1 and read the diff.
"""


def build(toy: Toy, plan: Plan) -> Any:
    code = stage_code(toy.root / "code")
    write_parameters(plan, toy.root / "parameters")
    return build_pipeline(plan, code=code.folder, parameters=toy.root / "parameters", model=toy.folder / "model")


@pytest.fixture
def plan(toy: Toy, mode: LocalMode) -> Plan:
    overrides = ("modes.local.processes=2", "distribution.strategy=ddp", "data.test=validation.jsonl")
    return mode.plan(toy.recipe(*overrides))


@pytest.fixture
def job(toy: Toy, plan: Plan) -> Any:
    return build(toy, plan)


@pytest.fixture
def graph(job: Any) -> Graph:
    return read_pipeline(job)


def test_the_graph_is_sound_and_has_every_step(graph: Graph) -> None:
    assert check_graph(graph) == []
    assert tuple(graph.steps) == COMPONENTS
    assert graph.outputs == {name: StepOutput(*source) for name, source in OUTPUTS.items()}


def test_the_command_line_is_that_of_the_component_as_azure_gets_it(job: Any, graph: Graph) -> None:
    wire = job._to_rest_object().as_dict()["properties"]["jobs"]
    for name, step in graph.steps.items():
        component = wire[name]["componentId"]._to_rest_object().as_dict()["properties"]["componentSpec"]
        assert step.command == component["command"]
        assert (
            step.command == yaml.safe_load((CHECKOUT / "components" / name / "component.yaml").read_text())["command"]
        )
        assert dict(step.variables) == wire[name]["environment_variables"] == {"PYTHONPATH": "azft.zip"}


def test_the_code_folder_is_the_staged_one_for_every_step(job: Any, graph: Graph, plan: Plan) -> None:
    assert {step.code for step in graph.steps.values()} == {Path(job.jobs["prepare"].component.code)}
    for step in graph.steps.values():
        assert step.code is not None
        assert sha256_tree(step.code) == plan.code_hash


def test_bindings_are_those_on_the_wire(job: Any, graph: Graph) -> None:
    wire = job._to_rest_object().as_dict()["properties"]
    for name, step in graph.steps.items():
        seen = {key: value["value"] for key, value in wire["jobs"][name]["inputs"].items()}
        for key, binding in step.bindings.items():
            if isinstance(binding, GraphInput):
                assert seen[key] == f"${{{{parent.inputs.{binding.name}}}}}"
                assert wire["inputs"][binding.name]["uri"] == str(graph.inputs[binding.name].path)  # type: ignore[union-attr]
            else:
                assert isinstance(binding, StepOutput)
                assert seen[key] == f"${{{{parent.jobs.{binding.step}.outputs.{binding.output}}}}}"
        assert set(seen) == set(step.bindings)


def test_ranks_are_set_by_a_new_object_and_leave_the_component_alone(job: Any, graph: Graph) -> None:
    assert {name: step.processes for name, step in graph.steps.items()} == {
        "prepare": 1, "finetune": 2, "evaluate": 1, "package": 1,
    }  # fmt: skip
    node = job.jobs["finetune"]
    assert node.distribution is not node.component.distribution
    assert job._to_rest_object().as_dict()["properties"]["jobs"]["finetune"]["distribution"] == {
        "distribution_type": "PyTorch",
        "process_count_per_instance": 2,
    }


def test_optional_inputs_drop_out_of_the_command_line(graph: Graph) -> None:
    step = graph.steps["finetune"]
    inputs = {name: Path("/in") if name in step.bindings else None for name in step.inputs}
    command = render(step.command, inputs, {name: Path("/out") for name in step.outputs})
    assert "--learning-rate" not in command
    assert command.startswith("python finetune/main.py --parameters /in")


def test_wiring_names_inputs_and_outputs_that_the_components_have() -> None:
    specs = {step: yaml.safe_load(component_file(step).read_text()) for step in COMPONENTS}
    for step, bindings in WIRING.items():
        assert set(bindings) <= set(specs[step]["inputs"])
        required = {name for name, spec in specs[step]["inputs"].items() if not spec.get("optional")}
        assert required <= set(bindings)
        for source, output in bindings.values():
            assert source == "parent" or output in specs[source]["outputs"]
    for source, output in OUTPUTS.values():
        assert output in specs[source]["outputs"]


@pytest.mark.parametrize("step", COMPONENTS)
def test_a_component_loads_as_it_lies_and_names_every_argument_of_its_main(step: str) -> None:
    with quiet_sdk():
        from azure.ai.ml import load_component

        component: Any = load_component(CHECKOUT / "components" / step / "component.yaml")
    assert component._validate().passed
    assert Path(component.base_path, component.environment.build.path).resolve().joinpath("Dockerfile").is_file()
    main = (CHECKOUT / "components" / step / "main.py").read_text()
    for name in [*component.inputs, *component.outputs]:
        flag = f"--{name.replace('_', '-')}"
        assert f'"{flag}"' in main
        assert f"{flag} ${{{{" in component.command


def test_the_payload_is_the_golden_one(job: Any, toy: Toy) -> None:
    """Shows in a diff whatever an edit, or a new SDK, changes of what would be sent."""
    golden = CHECKOUT / "tests" / "assets" / "pipeline_payload.yaml"
    payload = normal(job._to_rest_object().as_dict()["properties"], toy.folder)
    if os.environ.get("RENEW_GOLDEN"):  # pragma: no cover - by hand
        golden.write_text(GOLDEN_HEAD + yaml.safe_dump(payload, width=120))
    assert payload == yaml.safe_load(golden.read_text())


def normal(value: Any, folder: Path) -> Any:
    """A payload with what differs from machine to machine taken out, and component entities as Azure would get them."""
    if isinstance(value, dict):
        return {key: normal(child, folder) for key, child in value.items()}
    if isinstance(value, list):
        return [normal(child, folder) for child in value]
    if isinstance(value, str):
        return re.sub(r"\b[0-9a-f]{64}\b", "HASH", value.replace(str(folder), "FOLDER"))
    if isinstance(value, int | float | bool | None):
        return value
    return normal(value._to_rest_object().as_dict()["properties"]["componentSpec"], folder)


def test_literals_defaults_and_remote_inputs_of_any_job(tmp_path: Path) -> None:
    (tmp_path / "step.yaml").write_text(
        "type: command\nname: step\ninputs:\n"
        "  number: {type: number, default: 0.5, min: 0, max: 1}\n"
        "  choice: {type: string, enum: [a, b]}\n"
        "  data: {type: uri_file}\n"
        "outputs:\n  out: {type: uri_folder}\n"
        "environment: azureml:some@latest\ncommand: x ${{inputs.number}}\n"
    )
    with quiet_sdk():
        from azure.ai.ml import Input, load_component
        from azure.ai.ml.entities import PipelineJob

        component: Any = load_component(tmp_path / "step.yaml")
        node = component(choice="c", data="${{parent.inputs.data}}")
        inputs = {"data": Input(type="uri_file", path="azureml:data:1")}
        with pytest.raises(GraphError, match="not on this machine"):
            read_pipeline(PipelineJob(inputs=inputs, jobs={"step": node}))
        inputs = {"data": Input(type="uri_file", path=str(tmp_path / "step.yaml"))}
        graph = read_pipeline(PipelineJob(inputs=inputs, jobs={"step": node}))
    step = graph.steps["step"]
    assert graph.bound(step, "number") == Value(0.5)
    assert graph.bound(step, "data") == LocalPath(tmp_path / "step.yaml")
    assert step.environment == "some@latest"
    assert ["must be one of a, b" in finding.message for finding in check_graph(graph)] == [True]
