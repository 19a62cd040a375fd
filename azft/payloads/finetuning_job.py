"""Plan -> `CustomModelFineTuningJob`, built directly: the SDK's helper needs validation data and checks nothing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from azft.payloads.common import data_references, model_reference
from azft.pipeline import need_sdk
from azft.plan import Plan
from azft.tags import labels
from azft.targets.finetuning import TASKS

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job


def build(plan: Plan, *, name: str, run: str, references: Mapping[str, str]) -> Job:
    """The fine-tuning job: serverless without compute and instance types, on the user's machines with one of them."""
    target = plan.target
    assert target is not None
    if target.job_file is not None:
        return _from_file(plan, target.job_file, name=name, run=run, references=references)
    with need_sdk():
        from azure.ai.ml import Input, Output
        from azure.ai.ml.entities import QueueSettings
        from azure.ai.ml.entities._job.finetuning.custom_model_finetuning_job import CustomModelFineTuningJob
        from azure.ai.ml.entities._job.job_resources import JobResources

        data = {role: Input(type="uri_file", path=path) for role, path in data_references(plan, references).items()}
        machines: dict[str, Any] = {}
        if target.compute:
            machines["compute"] = target.compute
        if target.instance_types:
            machines["resources"] = JobResources(instance_types=list(target.instance_types))
        if target.tier == "low-priority":
            machines["queue_settings"] = QueueSettings(job_tier="Spot")
        tags = labels(plan.hash, run)
        return CustomModelFineTuningJob(
            task=TASKS[plan.recipe["task"]],
            model=Input(type="mlflow_model", path=model_reference(plan, references)),
            training_data=data["train"],
            validation_data=data.get("validation"),
            hyperparameters=dict(target.hyperparameters),
            name=name,
            display_name=plan.name,
            experiment_name=plan.name,
            description=plan.recipe["description"] or None,
            tags=tags,
            properties=dict(tags),
            outputs={
                "registered_model": Output(type="mlflow_model", name=plan.recipe["output"]["model_name"] or plan.name)
            },
            **machines,
        )


def _from_file(plan: Plan, words: Mapping[str, Any], *, name: str, run: str, references: Mapping[str, str]) -> Job:
    """The job of a job file, read by the SDK's own loader; only names and azft's labels are put in."""
    import yaml

    assert plan.target is not None
    replaced = {upload.reference: references.get(upload.name, upload.reference) for upload in plan.target.uploads}
    replaced |= {plan.target.model_id: references.get(plan.target.model_id, plan.target.model_id)}
    labelled = labels(plan.hash, run)
    filled = {key: _referring(value, replaced) for key, value in words.items()}
    filled |= {
        "name": name,
        "display_name": words.get("display_name") or plan.name,
        "experiment_name": words.get("experiment_name") or plan.name,
        "tags": {**(words.get("tags") or {}), **labelled},
        "properties": {**(words.get("properties") or {}), **labelled},
    }
    with need_sdk():
        from azure.ai.ml import Input, load_job

        job: Any = load_job(io.StringIO(yaml.safe_dump(filled)))
        # The loader takes `azureml:` off an asset's name, and the wire of all other jobs has it.
        for key, kind in (("model", "mlflow_model"), ("training_data", "uri_file"), ("validation_data", "uri_file")):
            if (value := filled.get(key)) is not None:
                said = value if isinstance(value, dict) else {"path": value}
                setattr(job, key, Input(type=said.get("type", kind), path=said["path"]))
    found: Job = job
    return found


def _referring(value: Any, replaced: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _referring(inner, replaced) for key, inner in value.items()}
    return replaced.get(value, value) if isinstance(value, str) else value
