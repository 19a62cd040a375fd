"""Runs that are in Azure, whoever started them from which machine: found by their tags, and adopted into `.azft`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from azft.azureml.resources import Resource, Resources
from azft.azureml.watching import STATES, mark_submitted
from azft.azureml.workspace import Workspace
from azft.plan import HASH_CHARACTERS
from azft.runs import Run, RunStore
from azft.tags import MODEL_TAG, RUN_TAG, TAG, VERSION_TAG

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

_MODEL_INPUTS = ("model", "mlflow_model_path", "pytorch_model_path")
"""A pipeline job's input that is the model: of azft's own pipeline, and of the registry's."""


@dataclass(frozen=True)
class RemoteRun:
    """A run as its jobs' tags tell it. `job` is the newest of its jobs."""

    name: str
    state: str
    mode: str
    created: str
    started_by: str
    job: str
    plan: str
    """The plan's hash."""
    version: str
    """Of the azft that started it."""
    studio_url: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def list_remote(connection: Connection) -> list[RemoteRun]:
    """All runs of the workspace that carry azft's tags, newest first."""
    newest: dict[str, Resource] = {}
    for job in _jobs(connection):
        name = _run_of(job)
        if name not in newest or job.created > newest[name].created:
            newest[name] = job
    return [_remote(name, job) for name, job in sorted(newest.items(), key=lambda item: item[1].created, reverse=True)]


def find_remote(connection: Connection, name: str) -> Resource | None:
    """The newest job of a run, or of the job that is named itself; None when it is none of azft's."""
    jobs = [job for job in _jobs(connection) if _run_of(job) == name or job.name == name]
    if jobs and any(_run_of(job) != name for job in jobs):
        run = _run_of(jobs[0])
        jobs = [job for job in _jobs(connection) if _run_of(job) == run]
    return max(jobs, key=lambda job: job.created) if jobs else None


def adopt(store: RunStore, connection: Connection, job: Resource) -> Run:
    """The record here of a run that was started elsewhere. It knows of the plan only what the job's tags say."""
    name = _run_of(job)
    jobs = sorted((found for found in _jobs(connection) if _run_of(found) == name), key=lambda found: found.created)
    with store.naming():
        if run := store.find(name):
            return run
        marks = job.marks
        target = {"service": service_of(job)}
        plan = {
            "name": _recipe_name(name, marks.get(TAG, "")),
            "mode": mode_of(job),
            "hash": marks.get(TAG, ""),
            "created": job.created,
            "azft_version": marks.get(VERSION_TAG, ""),
            "recipe": {"output": {"model_name": marks[MODEL_TAG]}} if MODEL_TAG in marks else {},
            "model": {"kind": "registry", "description": tuned_model(job) or "unknown"},
            "steps": [],
            "target": target,
            "adopted": True,
        }
        record = describe(connection.workspace, job.name, name, target["service"])
        record["jobs"] = [found.name for found in jobs] or [job.name]
        record["started_at"] = jobs[0].created if jobs else None
        run = store.create(name, plan=plan, recipe={}, azure=record)
    mark_submitted(run, job)
    return run


def describe(workspace: Workspace, job: str, run: str, service: str) -> dict[str, Any]:
    """The first contents of azure.json: where the job is, or will be."""
    return {
        "subscription": workspace.subscription,
        "resource_group": workspace.resource_group,
        "workspace": workspace.name,
        "found_by": workspace.found_by,
        "service": service,
        "run": run,
        "job": job,
        "jobs": [job],
        "job_id": None,
        "studio_url": None,
        "submitted": False,
        "submitted_at": None,
        "started_at": None,
    }


def workspace_of(run: Run) -> Workspace:
    """The workspace that a run is in."""
    record = run.azure
    return Workspace(record["subscription"], record["resource_group"], record["workspace"], "the run's record")


def mode_of(job: Resource) -> str:
    """The mode that a job was submitted by: it says so itself, else by where it runs."""
    service = service_of(job)
    return "maas" if service == "serverless-finetuning" else "maap"


def service_of(job: Resource) -> str:
    """Which service carries the job out, in the words of `Target.service`."""
    properties = job.properties
    if properties.get("jobType") == "FineTuning":
        own_machines = properties.get("computeId") or (properties.get("resources") or {}).get("instanceTypes")
        return "finetuning-job" if own_machines else "serverless-finetuning"
    own = {"prepare", "finetune", "evaluate", "package"}
    return "pipeline" if own <= set(properties.get("jobs") or own) else "system-pipeline"


def tuned_model(job: Resource) -> str:
    """The model that a job tunes, as the job itself says it: a registry's id, or an asset's; "" when it names none."""
    properties = job.properties
    given = (properties.get("fineTuningDetails") or {}).get("model")
    inputs = properties.get("inputs") or {}
    given = given or next((inputs[key] for key in _MODEL_INPUTS if inputs.get(key)), None)
    return str((given or {}).get("uri") or "")


def _jobs(connection: Connection) -> list[Resource]:
    found = Resources(connection).all("job", tag=RUN_TAG)
    return [job for job in found if RUN_TAG in job.marks and TAG in job.marks]


def _run_of(job: Resource) -> str:
    return job.marks.get(RUN_TAG) or job.name


def _recipe_name(run: str, plan_hash: str) -> str:
    """The recipe's name in a run's: before the plan's hash, whatever --again put behind it.

    Models and endpoints are named after it, so another one would be a second endpoint that bills.
    """
    named, hashed, _ = run.rpartition(f"-{plan_hash[:HASH_CHARACTERS]}")
    return named if hashed and named else run.rpartition("-")[0] or run


def _remote(name: str, job: Resource) -> RemoteRun:
    state = STATES.get(job.state)
    return RemoteRun(
        name=name,
        state=str(state) if state else job.state,
        mode=mode_of(job),
        created=job.created,
        started_by=job.created_by,
        job=job.name,
        plan=job.marks.get(TAG, ""),
        version=job.marks.get(VERSION_TAG, ""),
        studio_url=((job.properties.get("services") or {}).get("Studio") or {}).get("endpoint"),
    )
