"""Plan -> azft's own pipeline on Azure: the very job of local mode, with other places for inputs, outputs and steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from azft.payloads.common import data_references, model_reference
from azft.pipeline import ANY_COMPUTE, Placement, build_pipeline
from azft.plan import BLOB_STORE, Plan
from azft.staging import environment_folder
from azft.tags import MODEL_TAG, labels

if TYPE_CHECKING:
    from azure.ai.ml.entities import PipelineJob

KEPT_BY_RUN = ("checkpoints", "metrics")
"""Outputs at a place named by the run, so that a second job of the same run goes on where the first stopped. (Within a
job a preempted node finds its outputs anyway, at the place that the service gives them.)"""


def build(
    plan: Plan,
    *,
    name: str,
    run: str,
    code: Path,
    parameters: Path,
    components: Path | None = None,
    references: Mapping[str, str],
) -> PipelineJob:
    """The pipeline job on a cluster, or on machines that Azure makes for it."""
    target = plan.target
    assert target is not None
    inputs = data_references(plan, references)
    for upload in target.uploads:
        if upload.kind == "parameters":
            step = upload.name.rpartition("/")[2].removesuffix(".json")
            inputs[f"{step}_parameters"] = references.get(upload.name, upload.reference)
    staged = target.upload("code")
    serverless = target.compute is None
    placement = Placement(
        compute=target.compute or ANY_COMPUTE,
        instance_type=target.instance_types[0] if target.instance_types else None,
        nodes=target.nodes,
        tier="Spot" if serverless and target.tier == "low-priority" else None,
        model_type=target.model_type,
        inputs=inputs,
        components=components,
        environments=_environments(plan, references),
        outputs={output: f"{BLOB_STORE}/azft/runs/{run}/{output}" for output in KEPT_BY_RUN},
        # The name too, because whoever registers the result on another machine has no recipe to read it from.
        tags={**labels(plan.hash, run), MODEL_TAG: plan.recipe["output"]["model_name"] or plan.name},
    )
    return build_pipeline(
        plan,
        code=references.get(staged.name, str(code)) if staged else code,
        parameters=parameters,
        model=model_reference(plan, references),
        name=name,
        placement=placement,
    )


def _environments(plan: Plan, references: Mapping[str, str]) -> dict[str, str]:
    assert plan.target is not None
    known = {
        u.path: references[u.name] for u in plan.target.uploads if u.kind == "environment" and u.name in references
    }
    found = {step.name: known.get(environment_folder(step.name)) for step in plan.steps}
    return {step: reference for step, reference in found.items() if reference is not None}
