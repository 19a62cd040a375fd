"""From a plan to the azure-ai-ml `PipelineJob` that carries it out, here or on Azure: one object, one command line.

The Azure SDK is imported inside functions: it takes more than a second, and only a submission needs it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.errors import AzftError, MissingDependencyError
from azft.files import write_bytes
from azft.plan import Plan
from azft.staging import ARCHIVE, COMPONENTS, component_file

if TYPE_CHECKING:
    from azure.ai.ml.entities import PipelineJob

TAG = "azft.plan"
"""Tag and property under which a job carries its plan's hash; jobs are found again and adopted by it."""

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


def build_pipeline(
    plan: Plan,
    *,
    code: Path,
    parameters: Path,
    model: Path | str,
    name: str | None = None,
    compute: str = ANY_COMPUTE,
) -> PipelineJob:
    """The job of a plan.

    `code` is the staged code folder, `parameters` the folder of `write_parameters`, `model` a folder or an azureml://
    id; `name` the job's name where it isn't the plan's. Raises `AzftError` when the SDK finds the job invalid.
    """
    with quiet_sdk():
        try:
            from azure.ai.ml import Input, Output, PyTorchDistribution, load_component
            from azure.ai.ml.entities import PipelineJob, PipelineJobSettings
        except ImportError:
            raise MissingDependencyError("azure-ai-ml", extra="azure", purpose="Building the pipeline") from None

        inputs: dict[str, Any] = {"model": Input(type="uri_folder", path=str(model))}
        inputs |= {entry.role: Input(type="uri_file", path=str(entry.path)) for entry in plan.inputs}
        nodes: dict[str, Any] = {}
        for step in COMPONENTS:
            inputs[f"{step}_parameters"] = Input(type="uri_file", path=str(parameters / f"{step}.json"))
            component: Any = load_component(component_file(step), params_override=[{"code": str(code)}])
            bindings = {
                key: _expression(source)
                for key, source in WIRING[step].items()
                if source[0] != "parent" or source[1] in inputs
            }
            node = component(**bindings)
            node.name = step
            # What the YAML says about environment variables is dropped on the wire, and a node shares its component's
            # distribution object: both are set on the node, as new objects.
            node.environment_variables = {"PYTHONPATH": ARCHIVE}
            if node.distribution is not None:
                node.distribution = PyTorchDistribution(process_count_per_instance=plan.processes)
            for output, (source, key) in OUTPUTS.items():
                if source == step:
                    setattr(node.outputs, key, f"${{{{parent.outputs.{output}}}}}")
            nodes[step] = node
        job = PipelineJob(
            name=name or plan.run_name,
            display_name=plan.name,
            experiment_name=plan.name,
            description=plan.recipe["description"] or None,
            tags={TAG: plan.hash},
            properties={TAG: plan.hash},
            inputs=inputs,
            outputs={output: Output(type="uri_folder", mode="rw_mount") for output in OUTPUTS},
            jobs=nodes,
            settings=PipelineJobSettings(default_compute=compute, continue_on_step_failure=False, force_rerun=False),
        )
        result = job._validate()
    if not result.passed:
        problems = "; ".join(f"{where}: {what}" for where, what in result.error_messages.items())
        raise AzftError(
            f"Azure's SDK refuses the pipeline: {problems}.", fix="This is a fault of azft; please report it."
        )
    return job


@contextmanager
def quiet_sdk() -> Iterator[None]:
    """Without the lines that the SDK logs about experimental classes; they tell a user nothing."""
    logger = logging.getLogger("azure.ai.ml._utils._experimental")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _expression(source: Binding) -> str:
    step, key = source
    return f"${{{{parent.inputs.{key}}}}}" if step == "parent" else f"${{{{parent.jobs.{step}.outputs.{key}}}}}"
