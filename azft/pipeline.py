"""From a plan to the azure-ai-ml `PipelineJob` that carries it out, here or on Azure: one object, one command line.

The Azure SDK is imported inside functions: it takes more than a second, and only a submission needs it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.errors import AzftError, MissingDependencyError
from azft.files import write_bytes
from azft.plan import Plan
from azft.staging import ARCHIVE, COMPONENTS, component_file
from azft.tags import TAG

if TYPE_CHECKING:
    from azure.ai.ml.entities import PipelineJob

ANY_COMPUTE = "serverless"

Binding = tuple[str, str]
"""(step, output): where an input comes from; the step `parent` means the pipeline's own inputs."""

WIRING: dict[str, dict[str, Binding]] = {
    "prepare": {
        "parameters": ("parent", "prepare_parameters"),
        "model": ("parent", "model"),
        "train": ("parent", "train"),
        "validation": ("parent", "validation"),
        "test": ("parent", "test"),
    },
    "finetune": {
        "parameters": ("parent", "finetune_parameters"),
        "model": ("parent", "model"),
        "dataset": ("prepare", "dataset"),
    },
    "evaluate": {
        "parameters": ("parent", "evaluate_parameters"),
        "model": ("parent", "model"),
        "dataset": ("prepare", "dataset"),
        "trained": ("finetune", "trained"),
    },
    "package": {
        "parameters": ("parent", "package_parameters"),
        "model": ("parent", "model"),
        "trained": ("finetune", "trained"),
        "evaluation": ("evaluate", "evaluation"),
    },
}
OUTPUTS: dict[str, Binding] = {
    "packaged": ("package", "packaged"),
    "evaluation": ("evaluate", "evaluation"),
    "trained": ("finetune", "trained"),
    "checkpoints": ("finetune", "checkpoints"),
    "metrics": ("finetune", "metrics"),
}


def write_parameters(plan: Plan, folder: Path) -> None:
    """Write each step's parameters file, `<step>.json`."""
    for step in plan.steps:
        write_bytes(folder / f"{step.name}.json", step.parameters_json())


@dataclass(frozen=True)
class Placement:
    """Where a pipeline's inputs and outputs are and where its steps run; by default on this machine."""

    compute: str = ANY_COMPUTE
    """A cluster's name, or `serverless`: Azure then makes machines of `instance_type`."""
    instance_type: str | None = None
    nodes: int = 1
    """Machines of the finetune step."""
    tier: str | None = None
    """Queue of machines without a cluster: Standard or Spot."""
    model_type: str = "uri_folder"
    inputs: Mapping[str, str] = field(default_factory=dict)
    """What is read in place of a local file, by pipeline input."""
    components: Path | None = None
    """A folder of `<step>.yml` in place of azft's own component files, with their own code and environments."""
    environments: Mapping[str, str] = field(default_factory=dict)
    """A registered environment in place of the component's build folder, by step."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Where outputs go that must be found again, by output."""
    tags: Mapping[str, str] = field(default_factory=dict)


HERE = Placement()


def build_pipeline(
    plan: Plan,
    *,
    code: Path | str,
    parameters: Path,
    model: Path | str,
    name: str | None = None,
    placement: Placement = HERE,
) -> PipelineJob:
    """The job of a plan.

    `code` is the staged code folder (or the id of a registered one), `parameters` the folder of `write_parameters`,
    `model` a folder or an azureml:// id; `name` the job's name where it isn't the plan's. Raises `AzftError` when the
    SDK finds the job invalid.
    """
    with need_sdk("Building the pipeline"):
        from azure.ai.ml import Input, Output
        from azure.ai.ml.entities import PipelineJob, PipelineJobSettings

        paths: dict[str, str] = {entry.role: str(entry.path) for entry in plan.inputs}
        paths |= {f"{step}_parameters": str(parameters / f"{step}.json") for step in COMPONENTS}
        paths |= placement.inputs
        inputs: dict[str, Any] = {"model": Input(type=placement.model_type, path=str(model))}
        inputs |= {key: Input(type="uri_file", path=path) for key, path in paths.items()}
        tags = {TAG: plan.hash, **placement.tags}
        job = PipelineJob(
            name=name or plan.run_name,
            display_name=plan.name,
            experiment_name=plan.name,
            description=plan.recipe["description"] or None,
            tags=tags,
            properties=dict(tags),
            inputs=inputs,
            outputs={
                output: Output(type="uri_folder", mode="rw_mount", path=placement.outputs.get(output))
                for output in OUTPUTS
            },
            jobs={step: _node(plan, step, str(code), inputs, placement) for step in COMPONENTS},
            settings=PipelineJobSettings(
                default_compute=placement.compute, continue_on_step_failure=False, force_rerun=False
            ),
        )
        require_valid(job)
    return job


def _node(plan: Plan, step: str, code: str, inputs: Mapping[str, Any], placement: Placement) -> Any:
    from azure.ai.ml import PyTorchDistribution, load_component
    from azure.ai.ml.entities import JobResourceConfiguration, QueueSettings

    override: dict[str, Any] = {"code": code}
    if step in placement.environments:
        override["environment"] = placement.environments[step]
    if placement.components is None:
        component: Any = load_component(component_file(step), params_override=[override])
    else:
        component = load_component(placement.components / f"{step}.yml")
    bindings = {
        key: _expression(source) for key, source in WIRING[step].items() if source[0] != "parent" or source[1] in inputs
    }
    node = component(**bindings)
    node.name = step
    # What the YAML says about environment variables is dropped on the wire, and a node shares its component's
    # distribution and resources: all are set on the node, as new objects.
    node.environment_variables = {"PYTHONPATH": ARCHIVE}
    ranked = node.distribution is not None
    if ranked:
        node.distribution = PyTorchDistribution(process_count_per_instance=plan.processes)
    nodes = placement.nodes if ranked else 1
    if placement.instance_type is not None or nodes > 1:
        node.resources = JobResourceConfiguration(instance_count=nodes, instance_type=placement.instance_type)
    if placement.tier is not None:
        node.queue_settings = QueueSettings(job_tier=placement.tier)
    for output, (source, key) in OUTPUTS.items():
        if source == step:
            setattr(node.outputs, key, f"${{{{parent.outputs.{output}}}}}")
    return node


def require_valid(job: Any) -> None:
    """Raise `AzftError` when the SDK's own check of a job finds a problem."""
    result = job._validate()
    if not result.passed:
        problems = "; ".join(f"{where}: {what}" for where, what in result.error_messages.items())
        raise AzftError(
            f"Azure's SDK refuses the pipeline: {problems}.", fix="This is a fault of azft; please report it."
        )


@contextmanager
def need_sdk(purpose: str = "Building the job") -> Iterator[None]:
    """The SDK's imports and objects, quietly. Raises `MissingDependencyError` where it isn't installed."""
    try:
        import azure.ai.ml  # noqa: F401
    except ImportError:
        raise MissingDependencyError("azure-ai-ml", extra="azure", purpose=purpose) from None
    with quiet_sdk():
        yield


_QUIET = threading.Lock()
_inside: list[Any] = []
"""What the SDK asked when each of those that are in `quiet_sdk` came, the first of them the SDK's own question."""


@contextmanager
def quiet_sdk() -> Iterator[None]:
    """Without the SDK's warnings of experimental classes: they tell a user nothing.

    The SDK is told that it has asked already whether to warn. To find out, it reads the source around every frame of
    the stack, 25 ms each time. Threads may be in it at once: the last one to leave gives the question back.
    """
    from azure.ai.ml._utils import _experimental

    with _QUIET:
        _inside.append(_experimental._should_skip_warning)
        _experimental._should_skip_warning = _skip
    try:
        yield
    finally:
        with _QUIET:
            asked = _inside[0]
            _inside.pop()
            if not _inside:
                _experimental._should_skip_warning = asked


def _skip() -> bool:
    return True


def _expression(source: Binding) -> str:
    step, key = source
    return f"${{{{parent.inputs.{key}}}}}" if step == "parent" else f"${{{{parent.jobs.{step}.outputs.{key}}}}}"
