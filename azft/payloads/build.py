"""The one way from a plan to its job, whatever the target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from azft.payloads import finetuning_job, own_pipeline, system_pipeline
from azft.plan import Plan

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job


def build_job(
    plan: Plan,
    *,
    name: str | None = None,
    run: str | None = None,
    code: Path,
    parameters: Path,
    components: Path | None = None,
    references: Mapping[str, str] | None = None,
) -> Job:
    """The SDK's object for a plan with a target; no network.

    Args:
        plan: A plan of mode maas or maap.
        name: The job's name, where it isn't the plan's.
        run: The run that the job belongs to, where that isn't the job's own name: a resumed run's second job finds the
            first one's checkpoints by it.
        code: The staged code folder, for azft's own pipeline.
        parameters: The folder of `write_parameters`, for the same.
        components: A folder of `<step>.yml` in place of azft's own component files.
        references: By name of a planned upload, what the job calls it instead: an id that Azure gave; and by the id of
            a registry's model the same with a version.
    """
    assert plan.target is not None, "a plan for this machine has no target"
    job_name = name or plan.run_name
    if plan.target.service in ("serverless-finetuning", "finetuning-job"):
        return finetuning_job.build(plan, name=job_name, run=run or job_name, references=references or {})
    if plan.target.service == "system-pipeline":
        return system_pipeline.build(plan, name=job_name, run=run or job_name, references=references or {})
    return own_pipeline.build(
        plan,
        name=job_name,
        run=run or job_name,
        code=code,
        parameters=parameters,
        components=components,
        references=references or {},
    )


def content_references(plan: Plan) -> dict[str, str]:
    """References by content alone, as if everything had been uploaded and registered: they make a payload exact."""
    assert plan.target is not None, "a plan for this machine has no target"
    return {upload.name: upload.reference for upload in plan.target.uploads}
