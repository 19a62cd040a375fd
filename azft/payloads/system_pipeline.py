"""Plan -> a job around the registry's own pipeline, referred to by its id: loading it would need a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from azft.catalog.system_pipelines import output_types, system_pipelines
from azft.payloads.common import data_references, model_reference
from azft.pipeline import need_sdk, require_valid
from azft.plan import Plan
from azft.tags import MODEL_TAG, labels
from azft.targets.system import DATA_INPUTS

if TYPE_CHECKING:
    from azure.ai.ml.entities import PipelineJob

NODE = "finetune"
"""The one step of the job; the registry's pipeline has its own steps below it."""
RESULT = "trained_model"


def build(plan: Plan, *, name: str, run: str, references: Mapping[str, str]) -> PipelineJob:
    """The job. Its outputs are the registry's pipeline's, by their own names; `trained_model` is the MLflow model."""
    target = plan.target
    assert target is not None
    assert target.component is not None
    specs = system_pipelines()[plan.recipe["task"]].inputs
    with need_sdk():
        from azure.ai.ml import Input, Output
        from azure.ai.ml.entities import Pipeline, PipelineJob, PipelineJobSettings

        files = data_references(plan, references)
        inputs: dict[str, Any] = {
            DATA_INPUTS.get(role, role): Input(type="uri_file", path=path) for role, path in files.items()
        }
        if "huggingface_id" not in target.parameters:
            key = "pytorch_model_path" if target.model_type == "custom_model" else "mlflow_model_path"
            inputs[key] = Input(type=target.model_type, path=model_reference(plan, references))
        assert inputs.keys() <= specs.keys(), "the table of system pipelines lacks an input that the payload has"
        outputs = {RESULT if kind == "mlflow_model" else key: (key, kind) for key, kind in output_types().items()}
        node = Pipeline(
            component=target.component,
            inputs={**{key: f"${{{{parent.inputs.{key}}}}}" for key in inputs}, **target.parameters},
            outputs={key: f"${{{{parent.outputs.{output}}}}}" for output, (key, _) in outputs.items()},
        )
        node.name = NODE
        # The tag says under which name to register the result: the pipeline itself doesn't.
        tags = {**labels(plan.hash, run), MODEL_TAG: plan.recipe["output"]["model_name"] or plan.name}
        job = PipelineJob(
            name=name,
            display_name=plan.name,
            experiment_name=plan.name,
            description=plan.recipe["description"] or None,
            tags=tags,
            properties=dict(tags),
            inputs=inputs,
            outputs={output: Output(type=kind, mode="rw_mount") for output, (_, kind) in outputs.items()},
            jobs={NODE: node},
            settings=PipelineJobSettings(
                default_compute=target.compute or "serverless", continue_on_step_failure=False, force_rerun=True
            ),
        )
        require_valid(job)
    return job
